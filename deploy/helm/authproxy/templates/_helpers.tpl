{{- define "authproxy.labels" -}}
app.kubernetes.io/name: authproxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "authproxy.secret" -}}
{{ .Values.secret.existing | default .Release.Name }}
{{- end }}

{{- /* What the user says is laid over what every replica needs. */ -}}
{{- define "authproxy.config" -}}
{{- $hosts := list }}
{{- range list "" (printf ".%s" .Release.Namespace) (printf ".%s.svc" .Release.Namespace) (printf ".%s.svc.cluster.local" .Release.Namespace) }}
{{- $hosts = append $hosts (printf "%s%s" $.Release.Name .) }}
{{- end }}
{{- $file := "${file:/run/secrets/authproxy/%s}" }}
{{- $ours := dict
  "listen" "0.0.0.0:8080"
  "admin" (dict "listen" "0.0.0.0:8081")
  "allowed_hosts" $hosts
  "access" (dict "tokens" (list (printf $file "access-key")))
  "token_store" (dict "type" "redis" "url" (printf $file "redis-url") "key" (printf $file "store-key"))
  "log" (dict "format" "json")
}}
{{- mergeOverwrite $ours (deepCopy .Values.config) | toYaml }}
{{- end }}
