{{/* Begins each name in the release's namespace; leaves room for `-controller` in 63 characters. */}}
{{- define "pilotlight.name" -}}
{{- ternary .Release.Name (printf "%s-pilotlight" .Release.Name) (contains "pilotlight" .Release.Name) | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/*
The namespace of the Functions: the value, or else the one that this release serves already, so that an upgrade never leaves
Functions behind. For a new release it is one of their own, unless there are Functions beside the release: an earlier one,
now uninstalled, has served them. It is looked up once, and noted in the values.
*/}}
{{- define "pilotlight.functionNamespace" -}}
{{- if not .Values.functionNamespace }}
{{- $namespace := printf "%s-functions" (.Release.Namespace | trunc 53 | trimSuffix "-") }}
{{- if .Release.IsUpgrade }}
{{- $controller := lookup "apps/v1" "Deployment" .Release.Namespace (printf "%s-controller" (include "pilotlight.name" .)) }}
{{- range dig "spec" "template" "spec" "containers" (list) $controller }}
{{- range .args }}
{{- if hasPrefix "--namespace=" . }}{{ $namespace = trimPrefix "--namespace=" . }}{{ end }}
{{- end }}
{{- end }}
{{- else if .Capabilities.APIVersions.Has "pilotlight.dev/v1alpha1/Function" }}
{{- with (lookup "pilotlight.dev/v1alpha1" "Function" .Release.Namespace "").items }}
{{- $namespace = $.Release.Namespace }}
{{- end }}
{{- end }}
{{- $_ := set .Values "functionNamespace" $namespace }}
{{- end }}
{{- .Values.functionNamespace }}
{{- end }}

{{/*
Whether parts prove who they are: the value, or else `required`, but `permissive` in the upgrade from a release whose parts
cannot do so. That release has no Secret with authorities.
*/}}
{{- define "pilotlight.identity" -}}
{{- if .Values.identity }}
{{- .Values.identity }}
{{- else if .Release.IsUpgrade }}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (printf "%s-authority" (include "pilotlight.name" .)) }}
{{- ternary "required" "permissive" (not (empty (dig "data" "" $secret))) }}
{{- else }}required{{ end }}
{{- end }}

{{/*
A mode of the gateways towards their callers. Takes (list $ OPTION VALUE): the value, or else in an upgrade what the living
gateways have, so that an upgrade shuts nobody out; `optional` if they do not know the option; and `required` in a new
installation.
*/}}
{{- define "pilotlight.mode" -}}
{{- $root := index . 0 }}
{{- $option := printf "--%s=" (index . 1) }}
{{- if index . 2 }}
{{- index . 2 }}
{{- else if $root.Release.IsUpgrade }}
{{- $gateway := lookup "apps/v1" "Deployment" $root.Release.Namespace (printf "%s-gateway" (include "pilotlight.name" $root)) }}
{{- $mode := "optional" }}
{{- range dig "spec" "template" "spec" "containers" list $gateway }}
{{- range .args }}
{{- if hasPrefix $option . }}{{ $mode = trimPrefix $option . }}{{ end }}
{{- end }}
{{- end }}
{{- $mode }}
{{- else }}required{{ end }}
{{- end }}

{{/* Whether callers have to speak TLS. */}}
{{- define "pilotlight.tls" -}}
{{- include "pilotlight.mode" (list . "tls" ((.Values.gateway).tls).mode) }}
{{- end }}

{{/* The Secret with the certificate that callers get. Without a name of its own the controller writes it. */}}
{{- define "pilotlight.tlsSecret" -}}
{{- ((.Values.gateway).tls).secretName | default (printf "%s-tls" (include "pilotlight.name" .)) }}
{{- end }}

{{/* Not empty if the controller signs the certificate that callers get. */}}
{{- define "pilotlight.signsTls" -}}
{{- if and (ne (include "pilotlight.tls" .) "off") (not ((.Values.gateway).tls).secretName) }}signs{{ end }}
{{- end }}

{{/* The port at which functions and `helm test` call gateways. */}}
{{- define "pilotlight.port" -}}
{{- $service := .Values.gateway.service }}
{{- ternary $service.port ($service.tlsPort | default 443) (eq (include "pilotlight.tls" .) "off") }}
{{- end }}

{{/* Whether callers prove who they are. */}}
{{- define "pilotlight.auth" -}}
{{- include "pilotlight.mode" (list . "auth" (.Values.auth).mode) }}
{{- end }}

{{- define "pilotlight.accessKeys" -}}
{{- $namespace := dig "accessKeys" "namespace" "pilotlight-access-keys" (.Values.auth | default dict) }}
{{- if has $namespace (list .Release.Namespace (include "pilotlight.functionNamespace" .)) }}
{{- fail "auth.accessKeys.namespace: gateways read all Secrets of this namespace, so it has to be another one than the release's and that of the Functions" }}
{{- end }}
{{- $namespace }}
{{- end }}

{{/* Objects of the whole cluster, which each release has for itself. */}}
{{- define "pilotlight.accessName" -}}
{{- printf "%s-%s" (include "pilotlight.name" .) (printf "%s/%s" .Release.Namespace .Release.Name | sha256sum | trunc 8) }}
{{- end }}

{{/* The image of controller and gateway: with its digest instead of the tag, if that is set. */}}
{{- define "pilotlight.image" -}}
{{- $image := required "image: set it to Pilotlight's image in your registry, such as --set image=REGISTRY/pilotlight:0.1.0" .Values.image }}
{{- with .Values.imageDigest }}
{{- $image = printf "%s@%s" (regexReplaceAll "(:[^:/@]+|@.*)$" $image "") . }}
{{- end }}
{{- $image }}
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

{{/* Where a component's pods go: apart from each other, else as its values say. Takes (list $ COMPONENT). */}}
{{- define "pilotlight.placement" -}}
{{- $values := get (index . 0).Values (index . 1) }}
{{- $like := dict "labelSelector" (dict "matchLabels" (include "pilotlight.selector" . | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
{{- $node := dict "topologyKey" "kubernetes.io/hostname" "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" }}
{{- /* A constraint of the zone would void that of the node where nodes have no zone. */}}
{{- $zone := dict "topologyKey" "topology.kubernetes.io/zone" }}
{{- $apart := dict "weight" 100 "podAffinityTerm" (merge $zone $like) }}
{{- $affinity := dict "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list $apart)) }}
topologySpreadConstraints: {{- list (merge $node $like) | toYaml | nindent 2 }}
affinity: {{- $values.affinity | default $affinity | toYaml | nindent 2 }}
{{- range $field := list "nodeSelector" "tolerations" "priorityClassName" }}
{{- with get $values $field }}
{{ dict $field . | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty if this release brings the definition of WarmPool to a cluster that does not know it yet. */}}
{{- define "pilotlight.poolsAreLate" -}}
{{- if and .Values.crds.install (not (.Capabilities.APIVersions.Has "pilotlight.dev/v1alpha1/WarmPool")) }}late{{ end }}
{{- end }}

{{/*
Fails if another release that is still installed owns the definition: two releases would overwrite each
other's. A definition without an owner, or of a release that is gone, is left to Helm's own check, which
`--take-ownership` passes. Takes (list $ NAME-OF-THE-DEFINITION).
*/}}
{{- define "pilotlight.refuseForeignDefinition" -}}
{{- $root := index . 0 }}
{{- $live := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (index . 1) }}
{{- $annotations := dig "metadata" "annotations" (dict) $live }}
{{- $owner := get $annotations "meta.helm.sh/release-name" }}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" }}
{{- if and $owner (ne (printf "%s/%s" $namespace $owner) (printf "%s/%s" $root.Release.Namespace $root.Release.Name)) }}
{{- range (lookup "apps/v1" "Deployment" $namespace "").items }}
{{- $labels := .metadata.labels | default dict }}
{{- if and (eq (get $labels "app.kubernetes.io/name") "pilotlight") (eq (get $labels "app.kubernetes.io/instance") $owner) }}
{{- fail (printf "crds.install: the definition %s belongs to release %s in namespace %s: upgrade that release first, and set crds.install=false for this one" (index $ 1) $owner $namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty if the chart makes the namespace of the Functions: it is one of their own, and nobody else has made it. */}}
{{- define "pilotlight.makesFunctionNamespace" -}}
{{- $namespace := include "pilotlight.functionNamespace" . }}
{{- $live := lookup "v1" "Namespace" "" $namespace }}
{{- $annotations := dig "metadata" "annotations" (dict) $live }}
{{- $owner := printf "%s/%s" (get $annotations "meta.helm.sh/release-namespace") (get $annotations "meta.helm.sh/release-name") }}
{{- $ours := or (not $live) (eq $owner (printf "%s/%s" .Release.Namespace .Release.Name)) }}
{{- if and $ours (ne $namespace .Release.Namespace) (ne (toString .Values.createFunctionNamespace) "false") }}made{{ end }}
{{- end }}

{{/*
The event queue, as YAML: the values, with defaults for those of an earlier release (`--reuse-values`), and what follows from
them. `installed`: by this chart. `address`: empty if there is no queue. `secret`: with what gateways show it. `bytes`: what
events may take; the rest of the volume is for their progress, and for what the server has not cleaned up yet.
*/}}
{{- define "pilotlight.eventQueue" -}}
{{- $defaults := dict "install" true "image" "nats:2.15.3" "volume" true "size" "10Gi" "storageClass" "" "url" "" "secretName" "" "prefix" "pilotlight" "replicas" 1 "maxSize" "1Gi" }}
{{- $queue := mergeOverwrite $defaults (deepCopy (dig "queue" dict (.Values.events | default dict))) }}
{{- $name := printf "%s-events" (include "pilotlight.name" .) }}
{{- $installed := and $queue.install (not $queue.url) }}
{{- $address := $queue.url }}
{{- $secret := $queue.secretName }}
{{- $replicas := $queue.replicas }}
{{- $bytes := $queue.maxSize }}
{{- $mib := include "pilotlight.mib" $queue.size | int64 }}
{{- if $installed }}
{{- $address = printf "nats://%s.%s:4222" $name .Release.Namespace }}
{{- $secret = $name }}
{{- $replicas = 1 }}
{{- $bytes = printf "%dMi" (div (mul $mib 7) 10) }}
{{- end }}
{{- $made := dict "installed" $installed "address" $address "secret" $secret "replicas" $replicas "bytes" $bytes "storeMib" (div (mul $mib 9) 10) }}
{{- merge $made $queue | toYaml }}
{{- end }}

{{/*
The store of logs, as YAML: the values, with defaults for those of an earlier release (`--reuse-values`), and what follows
from them. `installed`: by this chart. `address`: empty if there is no store. `secret`: with what gateways show it.
*/}}
{{- define "pilotlight.logStore" -}}
{{- $defaults := dict "install" true "image" "victoriametrics/victoria-logs:v1.52.1" "retention" "30d" "volume" true "size" "20Gi" "storageClass" "" "url" "" "secretName" "" "tenant" "0:0" "flushInterval" 5 }}
{{- $store := mergeOverwrite $defaults (deepCopy (dig "store" dict (.Values.logs | default dict))) }}
{{- $name := printf "%s-logs" (include "pilotlight.name" .) }}
{{- $installed := and $store.install (not $store.url) }}
{{- $address := $store.url }}
{{- $secret := $store.secretName }}
{{- $flush := $store.flushInterval }}
{{- if $installed }}
{{- $address = printf "http://%s.%s:9428" $name .Release.Namespace }}
{{- $secret = $name }}
{{- $flush = 1 }}
{{- end }}
{{- $mib := include "pilotlight.mib" $store.size | int64 }}
{{- $made := dict "installed" $installed "address" $address "secret" $secret "flush" $flush "usedMib" (div (mul $mib 8) 10) "pod" (ternary (printf "%s-0" $name) "" $installed) }}
{{- merge $made $store | toYaml }}
{{- end }}
