{{/*
Templates for the pod that authsome runs in. A chart of yours includes them with
this chart's own context: (index .Subcharts "authsome-sidecar").
*/}}

{{- define "authsome-sidecar.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "authsome-sidecar.selectorLabels" -}}
{{- with .Values.podLabels -}}
{{- toYaml . -}}
{{- else -}}
app.kubernetes.io/name: {{ include "authsome-sidecar.name" . }}
{{- end -}}
{{- end -}}

{{- define "authsome-sidecar.labels" -}}
{{ include "authsome-sidecar.selectorLabels" . }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "authsome-sidecar.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where a credential's Secret is mounted. */}}
{{- define "authsome-sidecar.secretPath" -}}
/run/secrets/authsome/{{ .secretName }}/{{ .secretKey }}
{{- end -}}

{{/* What authsome proxy runs with. */}}
{{- define "authsome-sidecar.config" -}}
{{- $logins := dict -}}
{{- range .Values.credentials -}}
{{- $login := dict "secret_file" (include "authsome-sidecar.secretPath" .) -}}
{{- with get . "connection" }}{{ $_ := set $login "connection" . }}{{ end -}}
{{- with get . "clientId" }}{{ $_ := set $login "client_id" . }}{{ end -}}
{{- with get . "baseUrl" }}{{ $_ := set $login "base_url" . }}{{ end -}}
{{- with get . "scopes" }}{{ $_ := set $login "scopes" . }}{{ end -}}
{{- $_ := set $logins .provider (append (get $logins .provider | default list) $login) -}}
{{- end -}}
{{- $config := dict "metrics_addr" ":9090" "ca_dir" "/var/lib/authsome/home/ca" "bundle_out" "/run/authsome/ca.pem" "env_out" "/run/authsome/agent.env" "store" "memory" "egress" .Values.egress.policy "credentials" $logins -}}
{{- with .Values.egress.allowHosts }}{{ $_ := set $config "allow_host" . }}{{ end -}}
{{- if .Values.redirect.enabled -}}
{{- $_ := set $config "listen" list -}}
{{- $_ := set $config "transparent_listen" ":15001" -}}
{{- else -}}
{{- $_ := set $config "listen" "127.0.0.1:8080" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) -}}
{{- end -}}

{{- define "authsome-sidecar.initContainers" -}}
{{- if .Values.redirect.enabled }}
- name: redirect
  image: {{ include "authsome-sidecar.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [redirect, up, --uid, "65532", --port, "15001"{{ if .Values.redirect.strict }}, --strict{{ end }}]
  securityContext:
    runAsUser: 0
    runAsGroup: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: { drop: [ALL], add: [NET_ADMIN] }
  resources:
    requests: { cpu: 10m, memory: 32Mi }
    limits: { memory: 64Mi }
{{- end }}
- name: authsome
  image: {{ include "authsome-sidecar.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: [proxy, --config, /etc/authsome/proxy.yaml]
  env:
    - { name: GOMEMLIMIT, value: 200MiB }
    # The volume is open to all, and a home must not be. This is made in it.
    - { name: AUTHSOME_HOME, value: /var/lib/authsome/home }
  ports:
    - { name: metrics, containerPort: 9090 }
  startupProbe:
    httpGet: { path: /readyz, port: metrics }
    periodSeconds: 1
    failureThreshold: 60
  readinessProbe:
    httpGet: { path: /readyz, port: metrics }
    periodSeconds: 5
  livenessProbe:
    httpGet: { path: /healthz, port: metrics }
    periodSeconds: 10
  securityContext:
    runAsUser: 65532
    runAsGroup: 65532
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: { drop: [ALL] }
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - { name: proxy, mountPath: /etc/authsome, readOnly: true }
    {{- range (include "authsome-sidecar.secretNames" . | fromJsonArray) }}
    - { name: {{ printf "secret-%s" . | trunc 63 }}, mountPath: /run/secrets/authsome/{{ . }}, readOnly: true }
    {{- end }}
    - { name: state, mountPath: /var/lib/authsome }
    - { name: handout, mountPath: /run/authsome }
{{- end -}}

{{- define "authsome-sidecar.secretNames" -}}
{{- $names := list -}}
{{- range .Values.credentials }}{{ $names = append $names .secretName }}{{ end -}}
{{- uniq $names | toJson -}}
{{- end -}}

{{- define "authsome-sidecar.volumes" -}}
- name: proxy
  configMap: { name: {{ include "authsome-sidecar.name" . }}-authsome }
{{- range (include "authsome-sidecar.secretNames" . | fromJsonArray) }}
- name: {{ printf "secret-%s" . | trunc 63 }}
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
- name: state
  emptyDir: { sizeLimit: {{ .Values.state.sizeLimit }} }
- name: handout
  emptyDir: { medium: Memory, sizeLimit: 8Mi }
{{- end -}}

{{/* Lets the sidecar read the Secrets, which nobody else may. */}}
{{- define "authsome-sidecar.podSecurityContext" -}}
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* Rolls the pods when what authsome runs with has changed. */}}
{{- define "authsome-sidecar.podAnnotations" -}}
checksum/authsome: {{ include "authsome-sidecar.config" . | sha256sum }}
{{- end -}}

{{/* For every container of an agent. */}}
{{- define "authsome-sidecar.agentEnvFrom" -}}
- configMapRef: { name: {{ include "authsome-sidecar.name" . }}-env }
{{- end -}}

{{- define "authsome-sidecar.agentVolumeMounts" -}}
- { name: handout, mountPath: /run/authsome, readOnly: true }
{{- end -}}
