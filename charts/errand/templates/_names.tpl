{{/* Names and labels. */}}

{{- define "errand.fullname" -}}
{{- if contains "errand" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-errand" (.Release.Name | trunc 33 | trimSuffix "-") }}{{ end }}
{{- end }}

{{/* list root component */}}
{{- define "errand.name" -}}
{{ include "errand.fullname" (index . 0) }}-{{ index . 1 }}
{{- end }}

{{- define "errand.selector" -}}
app.kubernetes.io/name: errand
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "errand.labels" -}}
{{ include "errand.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* list root image-values */}}
{{- define "errand.image" -}}
{{- $root := index . 0 }}{{ $own := index . 1 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ $own.repository }}:{{ $own.tag | default $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{- define "errand.keysSecret" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-keys" (include "errand.fullname" .)) }}
{{- end }}

{{- define "errand.databaseSecret" -}}
{{ eq .Values.database.kind "external" | ternary .Values.database.existingSecret (printf "%s-database" (include "errand.fullname" .)) }}
{{- end }}

{{/* list root component port: where a Service without an address of its own finds all pods */}}
{{- define "errand.target" -}}
{{- $root := index . 0 -}}
dns:///{{ include "errand.name" . }}-headless.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}:{{ index . 2 }}
{{- end }}

{{- define "errand.mlflowUrl" -}}
{{- if eq .Values.mlflow.kind "bundled" }}http://{{ include "errand.name" (list . "mlflow") }}:5000
{{- else if eq .Values.mlflow.kind "external" }}{{ .Values.mlflow.url | trimSuffix "/" }}{{ end }}
{{- end }}

{{- define "errand.chromaUrl" -}}
{{- if eq .Values.chroma.kind "bundled" }}http://{{ include "errand.name" (list . "chroma") }}:8000
{{- else if eq .Values.chroma.kind "external" }}{{ .Values.chroma.url }}{{ end }}
{{- end }}

{{/* list root component: non-empty when the release has it */}}
{{- define "errand.exists" -}}
{{- $v := (index . 0).Values -}}
{{- $name := index . 1 -}}
{{- if has $name (list "gateway" "agent" "inference" "rag" "tools") }}yes
{{- else if eq $name "postgres" }}{{ eq $v.database.kind "bundled" | ternary "yes" "" }}
{{- else if has $name (list "redis" "chroma" "mlflow") }}{{ eq (index $v $name).kind "bundled" | ternary "yes" "" }}
{{- else if eq $name "collector" }}{{ $v.telemetry.collector.enabled | ternary "yes" "" }}
{{- else if has $name (list "backup" "ingest" "train") }}{{ (index $v $name).enabled | ternary "yes" "" }}
{{- end }}
{{- end }}
