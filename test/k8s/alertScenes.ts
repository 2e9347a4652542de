import type { Scene } from "./promtool.ts"

const here = 'namespace="plane"'
const pod = `${here},pod="a"`
const plane = { namespace: "plane" }

const publishes = (status: number, values: string) => ({
  [`artifact_http_requests_total{${here},pod="a",route="/v1/projects/:project/artifacts",method="POST",status="${status}"}`]:
    values,
})
const others = (route: string, status: number, values: string) => ({
  [`artifact_http_requests_total{${here},pod="a",route="${route}",method="GET",status="${status}"}`]: values,
})
type Told = (alert: string, name: string, at: string, series: Scene["series"], fires?: Scene["fires"]) => Scene

const every =
  (minutes: number, otherwise: Scene["fires"]): Told =>
  (alert, name, at, series, fires = otherwise) => ({ alert, name, at, series, fires, minutes })

const stands = every(1, [plane])
const silent = every(1, [])
/** Of days: the rules are many, and promtool evaluates all of them at each step. */
const standsLong = every(10, [plane])
const silentLong = every(10, [])
const days = (count: number) => count * 24 * 6

/** Of each alert: when it stands, and when it must not. */
export const scenes: ReadonlyArray<Scene> = [
  stands("ArtifactPlaneAbsent", "nothing is scraped", "5m", {}, [{}]),
  silent("ArtifactPlaneAbsent", "one pod is", "5m", { [`artifact_open_uploads{${pod}}`]: "0x10" }),

  // 2 % of publishes fail: 20 times the objective's 0.1 %.
  stands("ArtifactPlanePublishBudgetFast", "2 % fail for an hour", "70m", {
    ...publishes(201, "0+98x80"),
    ...publishes(503, "0+2x80"),
  }),
  stands("ArtifactPlanePublishBudgetFast", "0.8 % fail for six hours", "400m", {
    ...publishes(201, "0+992x410"),
    ...publishes(503, "0+8x410"),
  }),
  silent("ArtifactPlanePublishBudgetFast", "2 % failed, and it has been well for half an hour", "100m", {
    ...publishes(201, "0+98x100"),
    ...publishes(503, "0+2x60 120x40"),
  }),
  silent("ArtifactPlanePublishBudgetFast", "probes answer and hide nothing: no publish fails", "70m", {
    ...publishes(201, "0+98x80"),
    ...publishes(503, "0x80"),
    ...others("/readyz", 503, "0+500x80"),
  }),
  stands(
    "ArtifactPlanePublishBudgetFast",
    "a thousand probes a minute do not thin out the publishes that fail",
    "70m",
    {
      ...publishes(201, "0+98x80"),
      ...publishes(503, "0+2x80"),
      ...others("/readyz", 200, "0+1000x80"),
      ...others("/healthz", 200, "0+1000x80"),
    },
  ),
  silent("ArtifactPlanePublishBudgetFast", "callers' own errors cost nothing", "70m", {
    ...publishes(201, "0+50x80"),
    ...publishes(409, "0+50x80"),
  }),
  standsLong("ArtifactPlanePublishBudgetSlow", "0.4 % fail for a day", "25h", {
    ...publishes(201, `0+996x${days(2)}`),
    ...publishes(503, `0+4x${days(2)}`),
  }),
  standsLong("ArtifactPlanePublishBudgetSlow", "0.15 % fail for three days", "73h", {
    ...publishes(201, `0+9985x${days(4)}`),
    ...publishes(503, `0+15x${days(4)}`),
  }),
  silentLong("ArtifactPlanePublishBudgetSlow", "0.05 % fail, which the objective admits", "73h", {
    ...publishes(201, `0+9995x${days(4)}`),
    ...publishes(503, `0+5x${days(4)}`),
  }),

  stands("ArtifactPlaneEventsBudgetFast", "events are late for a few minutes of an hour", "65m", {
    [`artifact_outbox_lag_seconds{${pod}}`]: "0x55 20x15",
  }),
  silent("ArtifactPlaneEventsBudgetFast", "they were late, and are on time again", "90m", {
    [`artifact_outbox_lag_seconds{${pod}}`]: "0x30 20x10 0x60",
  }),
  silent("ArtifactPlaneEventsBudgetFast", "two seconds are not late", "65m", {
    [`artifact_outbox_lag_seconds{${pod}}`]: "2x70",
  }),
  standsLong("ArtifactPlaneEventsBudgetSlow", "late for ten minutes of each day", "73h", {
    [`artifact_outbox_lag_seconds{${pod}}`]: "8 0x142 8 0x142 8 0x142 8 0x20",
  }),
  silentLong("ArtifactPlaneEventsBudgetSlow", "on time for three days", "73h", {
    [`artifact_outbox_lag_seconds{${pod}}`]: "0x440",
  }),
  stands("ArtifactPlaneEventsStuck", "the oldest waits for a quarter of an hour", "25m", {
    [`artifact_outbox_lag_seconds{${pod}}`]: "0+60x30",
  }),
  silent("ArtifactPlaneEventsStuck", "the oldest waits for five minutes", "25m", {
    [`artifact_outbox_lag_seconds{${pod}}`]: "300x30",
  }),

  stands("ArtifactPlaneErrors", "5 % of the reads fail, thinned out by probes", "25m", {
    ...others("/v1/artifacts/:id/content", 200, "0+95x30"),
    ...others("/v1/artifacts/:id/content", 500, "0+5x30"),
    ...others("/readyz", 200, "0+5000x30"),
  }),
  silent("ArtifactPlaneErrors", "only a starting pod's probes fail", "25m", {
    ...others("/v1/artifacts/:id/content", 200, "0+95x30"),
    ...others("/readyz", 503, "0+500x30"),
  }),
  stands(
    "ArtifactPlaneDependency",
    "5 % of Redis's operations fail",
    "15m",
    {
      [`artifact_dependency_errors_total{${pod},dependency="redis"}`]: "0+5x20",
      [`artifact_dependency_duration_seconds_count{${pod},dependency="redis",operation="EventBus.append"}`]: "0+95x20",
      [`artifact_dependency_errors_total{${pod},dependency="postgres"}`]: "0x20",
      [`artifact_dependency_duration_seconds_count{${pod},dependency="postgres",operation="x.y"}`]: "0+95x20",
    },
    [{ ...plane, dependency: "redis" }],
  ),
  stands(
    "ArtifactPlaneDependency",
    "nothing of it succeeds any more",
    "15m",
    {
      [`artifact_dependency_errors_total{${pod},dependency="blob_store"}`]: "0+5x20",
      [`artifact_dependency_errors_total{${pod},dependency="postgres"}`]: "0x20",
    },
    [{ ...plane, dependency: "blob_store" }],
  ),
  silent("ArtifactPlaneDependency", "ten a second fail of 3,000, for a moment each", "15m", {
    [`artifact_dependency_errors_total{${pod},dependency="redis"}`]: "0+600x20",
    [`artifact_dependency_duration_seconds_count{${pod},dependency="redis",operation="EventBus.append"}`]:
      "0+180000x20",
  }),

  stands("ArtifactPlaneStreamRefilled", "the stream was refilled", "10m", {
    [`artifact_event_relay_refills_total{${pod}}`]: "0x5 1x10",
  }),
  silent("ArtifactPlaneStreamRefilled", "an hour ago", "75m", {
    [`artifact_event_relay_refills_total{${pod}}`]: "0x5 1x80",
  }),
  stands("ArtifactPlaneSequenceRaised", "the stream was ahead", "10m", {
    [`artifact_event_relay_restores_total{${pod}}`]: "0x5 1x10",
  }),
  silent("ArtifactPlaneSequenceRaised", "it never was", "10m", {
    [`artifact_event_relay_restores_total{${pod}}`]: "0x15",
  }),
  stands("ArtifactPlaneRemovalsHeld", "removals are held", "10m", {
    [`artifact_store_removals_held{${pod}}`]: "1x15",
  }),
  silent("ArtifactPlaneRemovalsHeld", "they are not", "10m", { [`artifact_store_removals_held{${pod}}`]: "0x15" }),
  stands("ArtifactPlaneContentLost", "a read found no bytes", "10m", {
    [`artifact_content_lost_total{${pod}}`]: "0x5 1x10",
  }),
  silent("ArtifactPlaneContentLost", "none did", "10m", { [`artifact_content_lost_total{${pod}}`]: "0x15" }),
  stands("ArtifactPlaneRemovalsParked", "a removal is parked", "10m", {
    [`artifact_removals_parked{${pod}}`]: "1x15",
    [`artifact_removals_parked{${here},pod="b"}`]: "1x15",
  }),
  silent("ArtifactPlaneRemovalsParked", "none is", "10m", { [`artifact_removals_parked{${pod}}`]: "0x15" }),
  stands("ArtifactPlaneRemovalsBehind", "thousands wait, and more each minute", "90m", {
    [`artifact_removals_waiting{${pod}}`]: "1000+50x100",
  }),
  silent("ArtifactPlaneRemovalsBehind", "thousands wait, and fewer each minute", "90m", {
    [`artifact_removals_waiting{${pod}}`]: "9000-50x100",
  }),

  stands(
    "ArtifactPlaneDutyLate",
    "no pod has pruned events for two hours",
    "150m",
    {
      [`artifact_duty_last_success_timestamp_seconds{${pod},duty="prune_events"}`]: "1800x160",
      [`artifact_duty_last_success_timestamp_seconds{${here},pod="b",duty="prune_events"}`]: "0x160",
      [`artifact_duty_last_success_timestamp_seconds{${pod},duty="relay"}`]: "0+60x160",
    },
    [{ ...plane, duty: "prune_events" }],
  ),
  stands(
    "ArtifactPlaneDutyLate",
    "it never succeeded since the pods started",
    "150m",
    { [`artifact_duty_last_success_timestamp_seconds{${pod},duty="orphans"}`]: "0x160" },
    [{ ...plane, duty: "orphans" }],
  ),
  silent("ArtifactPlaneDutyLate", "it moved to another pod, which does it", "150m", {
    [`artifact_duty_last_success_timestamp_seconds{${pod},duty="removals"}`]: "60x160",
    [`artifact_duty_last_success_timestamp_seconds{${here},pod="b",duty="removals"}`]: "0+60x160",
  }),
  silent("ArtifactPlaneDutyLate", "no project needs a sweep", "150m", {
    [`artifact_duty_last_success_timestamp_seconds{${pod},duty="sweep"}`]: "0x160",
    [`artifact_duty_last_success_timestamp_seconds{${pod},duty="reconcile"}`]: "0x160",
  }),
  stands("ArtifactPlaneTransactionIdsOld", "vacuum does not keep up", "90m", {
    [`artifact_postgres_transaction_id_age{${pod}}`]: "600000000x100",
  }),
  silent("ArtifactPlaneTransactionIdsOld", "vacuum began at 200 million", "90m", {
    [`artifact_postgres_transaction_id_age{${pod}}`]: "210000000x100",
  }),
  stands("ArtifactPlaneMultixactsOld", "vacuum does not keep up", "90m", {
    [`artifact_postgres_multixact_age{${pod}}`]: "600000000x100",
  }),
  silent("ArtifactPlaneMultixactsOld", "vacuum began at 400 million", "90m", {
    [`artifact_postgres_multixact_age{${pod}}`]: "410000000x100",
  }),
  stands("ArtifactPlaneWraparoundNear", "multixacts are three quarters used up", "15m", {
    [`artifact_postgres_transaction_id_age{${pod}}`]: "1000x20",
    [`artifact_postgres_multixact_age{${pod}}`]: "1600000000x20",
  }),
  stands("ArtifactPlaneWraparoundNear", "transactions are", "15m", {
    [`artifact_postgres_transaction_id_age{${pod}}`]: "1600000000x20",
    [`artifact_postgres_multixact_age{${pod}}`]: "1000x20",
  }),
  silent("ArtifactPlaneWraparoundNear", "neither is", "15m", {
    [`artifact_postgres_transaction_id_age{${pod}}`]: "600000000x20",
    [`artifact_postgres_multixact_age{${pod}}`]: "600000000x20",
  }),

  stands("ArtifactPlaneQuotaRefusals", "three refusals a minute", "45m", {
    [`artifact_refusals_total{${pod},code="quota_exceeded"}`]: "0+3x60",
  }),
  silent("ArtifactPlaneQuotaRefusals", "one each quarter of an hour, and refusals of another kind", "45m", {
    [`artifact_refusals_total{${pod},code="quota_exceeded"}`]: "0x14 1x14 2x14 3x14",
    [`artifact_refusals_total{${pod},code="not_found"}`]: "0+90x60",
  }),
  stands("ArtifactPlaneLeasesLost", "a tenth of the publishes", "45m", {
    [`artifact_refusals_total{${pod},code="lease_lost"}`]: "0+10x60",
    ...publishes(201, "0+90x60"),
    ...publishes(409, "0+10x60"),
  }),
  silent("ArtifactPlaneLeasesLost", "one of a hundred", "45m", {
    [`artifact_refusals_total{${pod},code="lease_lost"}`]: "0+1x60",
    ...publishes(201, "0+99x60"),
    ...publishes(409, "0+1x60"),
  }),
  stands(
    "ArtifactPlaneEventLoopSlow",
    "a twentieth of the timers is half a second late",
    "25m",
    {
      [`artifact_event_loop_delay_seconds_bucket{${pod},le="0.25"}`]: "0+95x30",
      [`artifact_event_loop_delay_seconds_bucket{${pod},le="0.5"}`]: "0+100x30",
      [`artifact_event_loop_delay_seconds_bucket{${pod},le="+Inf"}`]: "0+100x30",
    },
    [{ ...plane, pod: "a" }],
  ),
  silent("ArtifactPlaneEventLoopSlow", "all fire within a tenth of a second", "25m", {
    [`artifact_event_loop_delay_seconds_bucket{${pod},le="0.1"}`]: "0+100x30",
    [`artifact_event_loop_delay_seconds_bucket{${pod},le="+Inf"}`]: "0+100x30",
  }),
  stands(
    "ArtifactPlaneRestarts",
    "three restarts in a quarter of an hour",
    "25m",
    {
      [`kube_pod_container_status_restarts_total{${here},pod="artifact-plane-1",container="node"}`]: "0x10 1 2 3x30",
    },
    [{ ...plane, pod: "artifact-plane-1" }],
  ),
  silent("ArtifactPlaneRestarts", "another's pod", "25m", {
    [`kube_pod_container_status_restarts_total{${here},pod="redis-0",container="redis"}`]: "0x10 1 2 3x30",
  }),
  stands(
    "ArtifactPlaneFull",
    "at its limit for an hour",
    "60m",
    {
      [`kube_horizontalpodautoscaler_status_current_replicas{${here},horizontalpodautoscaler="artifact-plane"}`]:
        "12x70",
      [`kube_horizontalpodautoscaler_spec_max_replicas{${here},horizontalpodautoscaler="artifact-plane"}`]: "12x70",
    },
    [{ ...plane, horizontalpodautoscaler: "artifact-plane" }],
  ),
  silent("ArtifactPlaneFull", "one below", "60m", {
    [`kube_horizontalpodautoscaler_status_current_replicas{${here},horizontalpodautoscaler="artifact-plane"}`]: "11x70",
    [`kube_horizontalpodautoscaler_spec_max_replicas{${here},horizontalpodautoscaler="artifact-plane"}`]: "12x70",
  }),
  stands("ArtifactPlaneAutoscalerBlind", "it has no metric to go by", "25m", {
    [`kube_horizontalpodautoscaler_status_condition{${here},horizontalpodautoscaler="artifact-plane",condition="ScalingActive",status="false"}`]:
      "1x30",
  }),
  silent("ArtifactPlaneAutoscalerBlind", "it is at work", "25m", {
    [`kube_horizontalpodautoscaler_status_condition{${here},horizontalpodautoscaler="artifact-plane",condition="ScalingActive",status="false"}`]:
      "0x30",
  }),
]
