{{/* Settings by which a service reaches addresses that others name: hosts, and private networks. */}}
{{- define "errand.reachSettings" -}}
agent: {hosts: [webhook_hosts], networks: webhook_private_networks}
rag: {hosts: [fetch_hosts], networks: fetch_private_networks}
tools: {hosts: [http_allow_list, http_tool_hosts], networks: http_private_networks}
{{- end }}

{{/* list root component: whether it may reach the internet, and which private networks. Tools call public hosts and
inference downloads models unless they are told otherwise; agent and rag reach nobody until hosts are named. */}}
{{- define "errand.reach" -}}
{{- $name := index . 1 -}}
{{- $hosts := list -}}
{{- $networks := list -}}
{{- with index (include "errand.reachSettings" . | fromYaml) $name -}}
{{- $settings := (index (index $ 0).Values $name).settings -}}
{{- range .hosts }}{{ $hosts = concat $hosts (index $settings . | default list) }}{{ end -}}
{{- $networks = index $settings .networks | default list -}}
{{- end -}}
{{- range $hosts -}}
{{- with regexFind "^[0-9]+(\\.[0-9]+){3}" . }}{{ $networks = append $networks (printf "%s/32" .) }}{{ end -}}
{{- end -}}
internet: {{ or (has $name (list "tools" "inference")) (gt (len $hosts) 0) }}
networks: {{ $networks | uniq | toJson }}
{{- end }}
