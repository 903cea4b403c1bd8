{{/* What each service's load is, beside CPU: the metric of a pod, and the PromQL it is made from.
files/prometheus-adapter-values.yaml gives the same metrics to the autoscaler by the same expressions. */}}
{{- define "errand.loads" -}}
gateway: {metric: errand_requests_per_second, begin: sum(rate(http_requests_total, matchers: 'route!~"/healthz|/readyz|/metrics"', end: "[1m]))"}
agent: &calls {metric: errand_calls_in_flight, begin: sum(rpc_server_in_flight, matchers: 'method!~".*/Watch.*"', end: ")"}
inference: {metric: errand_queue_depth, begin: sum(llm_queue_depth, matchers: 'model!=""', end: ")"}
rag: *calls
tools: *calls
{{- end }}

{{- define "errand.scalingBehavior" -}}
# Up at once, to twice as many or four more; down by a tenth a minute, once five minutes agree.
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 4, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: 300
  selectPolicy: Max
  policies:
    - {type: Percent, value: 10, periodSeconds: 60}
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end }}
