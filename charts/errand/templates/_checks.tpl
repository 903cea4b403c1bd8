{{/* What a schema cannot say: values that contradict each other. Each message names the path and the cure. */}}
{{- define "errand.checks" -}}
{{- $v := .Values -}}
{{- range $name := list "gateway" "agent" "rag" "tools" -}}
{{- $own := index $v $name -}}
{{- if and (eq $v.database.kind "sqlite") (or (gt (int $own.replicas) 1) $own.autoscaling.enabled) -}}
{{- fail (printf "%s.replicas: SQLite has one writer, so %s runs once and does not scale; set database.kind to bundled or external" $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.chroma.kind "embedded") (or (gt (int $v.rag.replicas) 1) $v.rag.autoscaling.enabled) -}}
{{- fail "rag.replicas: embedded Chroma belongs to one process; set chroma.kind to bundled or external" -}}
{{- end -}}
{{- if and (eq $v.redis.kind "memory") (or (gt (int $v.gateway.replicas) 1) $v.gateway.autoscaling.enabled) -}}
{{- fail "redis.kind: memory counts rate limits in each gateway alone; with more than one set it to bundled or external" -}}
{{- end -}}
{{- range $name := list "gateway" "rag" "tools" -}}
{{- if and (eq $v.database.kind "sqlite") (gt (int (index $v $name).canary.replicas) 0) -}}
{{- fail (printf "%s.canary.replicas: SQLite has one writer; set database.kind to bundled or external" $name) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.chroma.kind "embedded") (gt (int $v.rag.canary.replicas) 0) -}}
{{- fail "rag.canary.replicas: embedded Chroma belongs to one process; set chroma.kind to bundled or external" -}}
{{- end -}}
{{- if and (eq $v.chroma.kind "pgvector") (ne $v.database.kind "external") -}}
{{- fail "chroma.kind: pgvector keeps vectors in an external Postgres that has the extension, 0.8 or later; set database.kind to external" -}}
{{- end -}}
{{- range $name := list "gateway" "agent" "inference" "rag" "tools" -}}
{{- $scaling := (index $v $name).autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas: is more than maxReplicas" $name) -}}
{{- end -}}
{{- if and $v.keda.enabled $scaling.enabled $scaling.load (not $v.keda.prometheus) -}}
{{- fail (printf "keda.prometheus: is empty, but %s.autoscaling.load is read from there" $name) -}}
{{- end -}}
{{- if and $v.keda.enabled $scaling.enabled $scaling.metrics -}}
{{- fail (printf "%s.autoscaling.metrics: are a HorizontalPodAutoscaler's; with keda.enabled use autoscaling.load" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.priorityClass.create (not $v.defaults.priorityClassName) -}}
{{- fail "defaults.priorityClassName: is empty, but priorityClass.create makes the class of that name" -}}
{{- end -}}
{{- if and $v.telemetry.collector.enabled (not $v.telemetry.otlpEndpoint) -}}
{{- fail "telemetry.otlpEndpoint: is empty, but telemetry.collector sends its spans there" -}}
{{- end -}}
{{- if and $v.backup.enabled (ne $v.database.kind "bundled") -}}
{{- fail "backup.enabled: only a bundled database is backed up; back up an external one where it runs, and SQLite by volume snapshots" -}}
{{- end -}}
{{- end }}
