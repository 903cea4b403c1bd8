{{/* A CronJob's rules; without a schedule it only runs when somebody makes a Job of it: kubectl create job NAME --from=cronjob/… */}}
{{- define "errand.cron" -}}
schedule: {{ . | default "0 0 1 1 *" | quote }}
suspend: {{ not . }}
concurrencyPolicy: Forbid
startingDeadlineSeconds: 3600
successfulJobsHistoryLimit: 3
failedJobsHistoryLimit: 3
{{- end }}

{{/* dict root command: the pod that dumps or restores databases and vectors, the databases first */}}
{{- define "errand.backupPod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $vectors := eq $v.chroma.kind "bundled" -}}
metadata:
  labels: {{- include "errand.labels" (list $root "backup") | nindent 4 }}
spec:
  {{- include "errand.podCommon" (list $root "backup") | nindent 2 }}
  restartPolicy: Never
  {{ $vectors | ternary "initContainers" "containers" }}:
    - name: databases
      image: {{ include "errand.image" (list $root $v.database.image) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [backup.sh]
      args: [{{ .command }}, /backup, {{ eq .command "dump" | ternary ($v.backup.keep | int | toString) $v.backup.restoreFrom | quote }}]
      env:
        - {name: PGHOST, value: {{ include "errand.name" (list $root "postgres") }}}
        # Row-level security hides rows from all but the superuser.
        - name: POSTGRES_PASSWORD
          valueFrom: {secretKeyRef: {name: {{ include "errand.databaseSecret" $root }}, key: postgres-password}}
      resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 512Mi}}
      securityContext: {{- include "errand.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: backup, mountPath: /backup}
        - {name: tmp, mountPath: /tmp}
  {{- if $vectors }}
  containers:
    - name: vectors
      image: {{ include "errand.image" (list $root $v.chroma.image) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [python, /usr/local/bin/backup.py]
      args: [{{ .command }}, /backup{{ if eq .command "restore" }}, {{ $v.backup.restoreFrom | quote }}{{ end }}]
      env:
        - {name: HOME, value: /tmp}
        - {name: ANONYMIZED_TELEMETRY, value: "false"}
        - {name: CHROMA_HOST, value: {{ include "errand.name" (list $root "chroma") }}}
      resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {memory: 1Gi}}
      securityContext: {{- include "errand.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: backup, mountPath: /backup}
        - {name: tmp, mountPath: /tmp}
  {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: backup
      persistentVolumeClaim: {claimName: {{ include "errand.name" (list $root "backup") }}}
{{- end }}
