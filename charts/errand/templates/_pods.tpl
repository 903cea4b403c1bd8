{{/* What the pods of all components share. */}}

{{- define "errand.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "errand.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "errand.podCommon" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "errand.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "errand.podSecurity" $root | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- if not (has (index . 1) (list "backup" "ingest" "train")) }}
{{- with $root.Values.defaults.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* list root component: where pods run. An own rule replaces the shared one. */}}
{{- define "errand.placement" -}}
{{- $root := index . 0 -}}
{{- $own := index $root.Values (index . 1) -}}
{{- with $own.nodeSelector | default $root.Values.defaults.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations | default $root.Values.defaults.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "errand.selector" $ | nindent 8 }}
{{- end }}
{{- end }}

{{/* list service value: numbers come as floats, and 1e+07 is not what a service reads as one; tools reads lists with
commas, the others read JSON */}}
{{- define "errand.text" -}}
{{- $value := index . 1 -}}
{{- if kindIs "float64" $value -}}
{{- if eq $value (floor $value) }}{{ int64 $value }}{{ else }}{{ $value }}{{ end -}}
{{- else if and (kindIs "slice" $value) (eq (index . 0) "tools") -}}{{ join "," $value }}
{{- else if or (kindIs "slice" $value) (kindIs "map" $value) -}}{{ toJson $value }}
{{- else -}}{{ $value }}{{ end -}}
{{- end }}

{{/* dict port name: the probes of a service's container; startup ends the wait, readiness sends traffic, liveness restarts */}}
{{- define "errand.probes" -}}
{{- $probe := "" -}}
{{- $alive := "" -}}
{{- if eq .name "gateway" -}}
{{- /* Not /readyz: it asks the other services too, and one that is away would take every gateway out of the Service. */ -}}
{{- $probe = "httpGet: {path: /healthz, port: http}" -}}
{{- $alive = $probe -}}
{{- /* The kubelet speaks no TLS to a gRPC health service. */ -}}
{{- else if or (eq .root.Values.defaults.probes "http") .root.Values.mtls.enabled -}}
{{- $probe = "httpGet: {path: /readyz, port: metrics}" -}}
{{- $alive = "httpGet: {path: /healthz, port: metrics}" -}}
{{- else -}}
{{- $probe = printf "grpc: {port: %d}" (int .port) -}}
{{- $alive = $probe -}}
{{- end -}}
startupProbe:
  {{ $probe }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 300
readinessProbe:
  {{ $probe }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  {{ $alive }}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* dict root name port: one service's variables */}}
{{- define "errand.environment" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $prefix := printf "ERRAND_%s_" (upper .name) -}}
{{- $own := index $v .name -}}
{{- $env := dict "HOST" "0.0.0.0" "PORT" (.port | toString) "METRICS_PORT" "9090" "DATA_DIR" "/data" -}}
{{- $_ := set $env "DRAIN_SECONDS" ($v.defaults.drainSeconds | int | toString) -}}
{{- $_ := set $env "JWKS" (printf "http://%s/.well-known/jwks.json" (include "errand.name" (list $root "keys"))) -}}
{{- with include "errand.mlflowUrl" $root -}}
{{- $_ := set $env "MLFLOW_ENDPOINT" (printf "%s/v1/traces" .) -}}
{{- if not (and (eq $v.mlflow.kind "external") $v.mlflow.headersSecret) }}{{ $_ := set $env "MLFLOW_HEADERS" (dict "x-mlflow-experiment-id" $v.mlflow.experimentId | toJson) }}{{ end -}}
{{- end -}}
{{- with $v.telemetry.otlpEndpoint }}{{ $_ := set $env "OTLP_ENDPOINT" . }}{{ end -}}
{{- if $v.telemetry.collector.enabled }}{{ $_ := set $env "OTLP_ENDPOINT" (printf "http://%s:4318/v1/traces" (include "errand.name" (list $root "collector"))) }}{{ end -}}
{{- range $target, $callers := include "errand.callers" $root | fromYaml -}}
{{- if and (has $.name $callers) (hasKey (include "errand.ports" $root | fromYaml) $target) -}}
{{- $_ := set $env (printf "%s_TARGET" (upper $target)) (include "errand.target" (list $root $target (index (include "errand.ports" $root | fromYaml) $target))) -}}
{{- end -}}
{{- end -}}
{{- if $v.mtls.enabled }}{{ $_ := set $env "TLS_DIR" "/tls" }}{{ end -}}
{{- if has .name (list "gateway" "agent" "rag") }}{{ $_ := set $env "SIGNING_KEY_FILE" "/keys/signing-key.pem" }}{{ end -}}
{{- if eq .name "rag" -}}
{{- with include "errand.chromaUrl" $root }}{{ $_ := set $env "CHROMA_URL" . }}{{ end -}}
{{- if eq $v.chroma.kind "pgvector" }}{{ $_ := set $env "VECTOR_STORE" "pgvector" }}{{ end -}}
{{- end -}}
{{- if eq .name "inference" -}}
{{- with $v.inference.hubId }}{{ $_ := set $env "HUB_ID" . }}{{ end -}}
{{- if include "errand.prepares" . }}{{ $_ := set $env "CACHE_DIR" "/cache" }}{{ end -}}
{{- end -}}
{{- range $setting, $value := $own.settings }}{{ $_ := set $env (upper $setting) (include "errand.text" (list $.name $value)) }}{{ end -}}
{{- range $name := keys $env | sortAlpha }}
- name: {{ $prefix }}{{ $name }}
  value: {{ index $env $name | quote }}
{{- end }}
{{- range $variable, $secret := dict "MLFLOW_HEADERS" (eq $v.mlflow.kind "external" | ternary $v.mlflow.headersSecret "") "OTLP_HEADERS" ($v.telemetry.collector.enabled | ternary "" $v.telemetry.headersSecret) }}
{{- with $secret }}
- name: {{ $prefix }}{{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ . }}, key: headers}}
{{- end }}
{{- end }}
{{- if and (ne $v.database.kind "sqlite") (ne .name "inference") }}
- name: {{ $prefix }}DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ include "errand.databaseSecret" $root }}, key: {{ .name }}-url}}
{{- if eq .name "agent" }}
- name: {{ $prefix }}DBOS_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ include "errand.databaseSecret" $root }}, key: agent-dbos-url}}
{{- end }}
{{- end }}
{{- if eq .name "agent" }}
- name: {{ $prefix }}EXECUTOR_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- if eq .name "rag" }}
- name: {{ $prefix }}WORKER_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- if and (eq .name "rag") (ne $v.redis.kind "memory") }}
- name: {{ $prefix }}EMBEDDING_CACHE_URL
  valueFrom: {secretKeyRef: {name: {{ $v.redis.existingSecret | default (include "errand.name" (list $root "redis")) }}, key: url}}
{{- end }}
{{- if eq .name "gateway" }}
- name: {{ $prefix }}BOOTSTRAP_ADMIN_KEY
  valueFrom: {secretKeyRef: {name: {{ include "errand.keysSecret" $root }}, key: admin-key}}
- name: {{ $prefix }}KEY_PEPPER
  valueFrom: {secretKeyRef: {name: {{ include "errand.keysSecret" $root }}, key: pepper}}
{{- if ne $v.redis.kind "memory" }}
- name: {{ $prefix }}RATE_LIMIT_STORAGE
  valueFrom: {secretKeyRef: {name: {{ $v.redis.existingSecret | default (include "errand.name" (list $root "redis")) }}, key: url}}
{{- end }}
{{- end }}
{{- if and (eq .name "inference") $v.inference.hubSecret }}
- name: {{ $prefix }}HUB_TOKEN
  valueFrom: {secretKeyRef: {name: {{ $v.inference.hubSecret }}, key: token}}
{{- end }}
{{- $secret := $own.secretSettings }}
{{- if and (eq .name "tools") (not $secret.secret_keys) (ne $v.database.kind "sqlite") }}
# What seals tenants' secrets; without the key tools keeps none.
- name: {{ $prefix }}SECRET_KEYS
  valueFrom: {secretKeyRef: {name: {{ include "errand.keysSecret" $root }}, key: seal-key, optional: true}}
{{- end }}
{{- range $setting, $from := $secret }}
- name: {{ $prefix }}{{ upper $setting }}
  valueFrom: {secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}}
{{- end }}
- name: HOME
  value: /tmp
{{- end }}

{{- define "errand.ports" -}}
agent: 50051
inference: 50052
rag: 50053
tools: 50054
{{- end }}

{{/* Who calls whom: the targets that services are told and the paths that NetworkPolicies open come from this one table. */}}
{{- define "errand.callers" -}}
agent: [gateway]
inference: [gateway, agent, rag]
rag: [gateway, agent, tools]
tools: [gateway, agent]
gateway: [test, ingest]
postgres: [gateway, agent, rag, tools, mlflow, migrate, backup]
redis: [gateway, rag]
chroma: [rag, backup]
mlflow: [gateway, agent, inference, rag, tools]
collector: [gateway, agent, inference, rag, tools]
{{- end }}

{{/* list size class */}}
{{- define "errand.claim" -}}
accessModes: [ReadWriteOnce]
{{- with index . 1 }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ index . 0 }}}}
{{- end }}
