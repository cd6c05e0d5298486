{{/* Begins each name in the release's namespace; leaves room for `-controller` in 63 characters. */}}
{{- define "pilotlight.name" -}}
{{- ternary .Release.Name (printf "%s-pilotlight" .Release.Name) (contains "pilotlight" .Release.Name) | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "pilotlight.functionNamespace" -}}
{{- .Values.functionNamespace | default .Release.Namespace }}
{{- end }}

{{/* The next two take (list $ COMPONENT). */}}
{{- define "pilotlight.selector" -}}
app.kubernetes.io/name: pilotlight
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "pilotlight.labels" -}}
{{- $chart := (index . 0).Chart -}}
{{ include "pilotlight.selector" . }}
app.kubernetes.io/version: {{ $chart.AppVersion | quote }}
app.kubernetes.io/part-of: pilotlight
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $chart.Name $chart.Version | replace "+" "_" }}
{{- end }}

{{- define "pilotlight.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "pilotlight.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Where a component's pods go; takes its values. */}}
{{- define "pilotlight.placement" -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $ $field }}
{{ dict $field . | toYaml }}
{{- end }}
{{- end }}
{{- end }}
