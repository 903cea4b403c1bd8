{{/* dict root name port kind tag: the pod template of one of the five services */}}
{{- define "errand.pod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $own := index $v .name -}}
{{- $image := dict "repository" $own.image.repository "tag" (.tag | default $own.image.tag) -}}
metadata:
  labels:
    {{- include "errand.labels" (list $root .name) | nindent 4 }}
    {{- with .track }}
    errand.dev/track: {{ . }}
    {{- end }}
  annotations:
    {{- with $v.defaults.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
    kubectl.kubernetes.io/default-container: {{ .name }}
spec:
  {{- include "errand.podCommon" (list $root .name) | nindent 2 }}
  {{- include "errand.placement" (list $root .name) | nindent 2 }}
  terminationGracePeriodSeconds: {{ add (int $v.defaults.preStopSeconds) (int $v.defaults.drainSeconds) 10 }}
  {{- with (get $v .name).runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- if and (ne $v.database.kind "sqlite") (ne .name "inference") }}
  initContainers:
    - name: wait-for-tables
      image: {{ include "errand.image" (list $root $image) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command:
        - python
        - -c
        - {{ $root.Files.Get "files/wait_for_tables.py" | toJson }}
        - {{ index (include "errand.schemas" $root | fromYaml) .name }}
      env:
        - name: DATABASE_URL
          valueFrom: {secretKeyRef: {name: {{ include "errand.databaseSecret" $root }}, key: {{ .name }}-url}}
      securityContext: {{- include "errand.containerSecurity" $root | nindent 8 }}
      resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 128Mi}}
  {{- end }}
  {{- if include "errand.prepares" . }}
  initContainers:
    # The serving image holds its own model and no torch: any other one is downloaded and converted here.
    - name: prepare
      image: {{ include "errand.image" (list $root $own.prepare.image) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [prepare]
      env: {{- include "errand.environment" . | nindent 8 }}
      resources: {{- toYaml $own.prepare.resources | nindent 8 }}
      securityContext: {{- include "errand.containerSecurity" $root | nindent 8 }}
      volumeMounts: {{- include "errand.mounts" . | nindent 8 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "errand.image" (list $root $image) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [serve]
      env: {{- include "errand.environment" . | nindent 8 }}
      ports:
        - {name: {{ eq .name "gateway" | ternary "http" "grpc" }}, containerPort: {{ .port }}}
        - {name: metrics, containerPort: 9090}
      {{- include "errand.probes" . | nindent 6 }}
      lifecycle:
        preStop: {exec: {command: [sleep, {{ $v.defaults.preStopSeconds | int | quote }}]}}
      resources: {{- include "errand.withGpus" (list $own.resources ($own.gpus | default 0)) | nindent 8 }}
      securityContext: {{- include "errand.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- include "errand.mounts" . | nindent 8 }}
        {{- if has .name (list "gateway" "agent" "rag") }}
        - {name: keys, mountPath: /keys, readOnly: true}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if ne (include "errand.keepsData" .) "claim" }}
    - name: data
      emptyDir: {}
    {{- else if ne .name "agent" }}
    - name: data
      persistentVolumeClaim: {claimName: {{ include "errand.name" (list $root .name) }}}
    {{- end }}
    {{- if $v.mtls.enabled }}
    - name: tls
      secret: {secretName: {{ include "errand.name" (list $root .name) }}-tls, defaultMode: 0440}
    {{- end }}
    {{- if has .name (list "gateway" "agent" "rag") }}
    - name: keys
      secret:
        secretName: {{ include "errand.keysSecret" $root }}
        defaultMode: 0440
        items: [{key: signing-key.pem, path: signing-key.pem}]
    {{- end }}
    {{- if include "errand.prepares" . }}
    - name: cache
      {{- if $v.inference.cache.storage }}
      persistentVolumeClaim: {claimName: {{ include "errand.name" (list $root "inference-cache") }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    {{- if and (eq .name "inference") $v.inference.modelClaim }}
    - name: model
      persistentVolumeClaim: {claimName: {{ $v.inference.modelClaim }}, readOnly: true}
    {{- end }}
{{- end }}

{{/* yes when inference serves another model than the one in its image */}}
{{- define "errand.prepares" -}}
{{- if and (eq .name "inference") (or .root.Values.inference.hubId .root.Values.inference.modelClaim) }}yes{{ end }}
{{- end }}

{{- define "errand.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.mtls.enabled }}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- if include "errand.prepares" . }}
- {name: cache, mountPath: /cache}
{{- if .root.Values.inference.modelClaim }}
- {name: model, mountPath: /model, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{/* claim when the service's files must outlive its pod */}}
{{- define "errand.keepsData" -}}
{{- $v := .root.Values -}}
{{- if or (and (eq $v.database.kind "sqlite") (ne .name "inference")) (and (eq .name "rag") (eq $v.chroma.kind "embedded")) }}claim{{ end }}
{{- end }}

{{/* list resources gpus */}}
{{- define "errand.withGpus" -}}
{{- $resources := deepCopy (index . 0) -}}
{{- with int (index . 1) -}}
{{- $_ := set $resources "limits" (mergeOverwrite (deepCopy ($resources.limits | default dict)) (dict "nvidia.com/gpu" .)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* The Postgres schema that each service owns. */}}
{{- define "errand.schemas" -}}
gateway: gateway
agent: agent
rag: errand_rag
tools: tools
{{- end }}
