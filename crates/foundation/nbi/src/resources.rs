//! The resources of `/v1`.

use std::collections::BTreeMap;

use ids::{Labels, Name, Selector};
use serde::{Deserialize, Serialize};

pub const API_VERSION: &str = "blocks/v1beta1";

/// What every resource has. Users write `name` and `labels`; the rest is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    pub name: Name,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Opaque; for If-Match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts the changes of `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// An application: blocks that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Service {
    pub api_version: String,
    /// `Service`
    pub kind: String,
    pub metadata: Metadata,
    pub spec: ServiceSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ServiceStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceSpec {
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Block {
    pub name: Name,
    /// How many independent units run the same; the one field that `scale` changes.
    #[serde(default = "one")]
    pub replicas: u32,
    #[serde(default)]
    pub placement: Placement,
    #[serde(flatten)]
    pub kind: BlockKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kpi: Option<Kpi>,
    /// What the Learning Plane may do for this block; without it, it only watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum BlockKind {
    CellDeployment(CellDeployment),
}

/// An MPI program as WebAssembly. All of it but `checkpoints` is immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CellDeployment {
    /// `sha256:…`, uploaded before with PUT /v1/modules/{digest}.
    pub module: String,
    pub ranks: u32,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<Checkpoints>,
    #[serde(default)]
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mount {
    pub path: String,
    /// `file:///absolute/path`
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Checkpoints {
    /// `30s`
    pub every: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// `1Gi` by default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// `64Mi` by default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// Where a block may be: at every site whose labels match. Among them, the one with the most free processors is taken, and kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Placement {
    /// Where it begins.
    #[serde(default)]
    pub site_selector: Selector,
    /// Where it may be moved to; by default wherever it may begin, and every other site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate_to: Option<Selector>,
}

/// What is promised to whoever uses the block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Kpi {
    /// Which completions count as iterations: `CALL`, `CALL/COMM` or `CALL/COMM/TAG`, e.g. `MPI_Allreduce`; by default the most frequent
    /// collective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<String>,
    /// The longest time of an iteration that is in order: `200ms`.
    pub max: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    pub mode: PolicyMode,
    /// The policy's text (docs/policies.md); by default one that moves the block away from a forecast violation of its KPI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// It decides, and says what it would do.
    Shadow,
    /// It acts.
    Active,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub observed_generation: u64,
    /// `Pending`, `Progressing`, `InSync`, `Degraded`, `Succeeded`, `Failed`, `Unknown`, `Deleting`
    pub phase: String,
    pub conditions: Vec<Condition>,
    pub units: Vec<UnitStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// `org/service/block/replica`
    pub id: String,
    pub epoch: u64,
    /// A phase of the unit, or `Unknown` when its site has not reported lately.
    pub phase: String,
    pub reason: String,
    pub home: Name,
    /// Where it shall be, and where each rank is.
    pub site: Name,
    pub ranks: Vec<RankStatus>,
    pub moves: u64,
    pub last_moves: Vec<MoveStatus>,
    pub restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How old this report is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RankStatus {
    pub rank: u32,
    pub site: Name,
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveStatus {
    pub rank: u32,
    pub from: Name,
    pub to: Name,
    pub bytes: u64,
    pub pause_us: u64,
    pub resumed_at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    pub api_version: String,
    /// `Site`
    pub kind: String,
    pub metadata: Metadata,
    pub spec: SiteSpec,
    pub status: SiteStatus,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    pub cpu_share: f64,
    pub cpu_share_by: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// `Ready`, `Behind` (an older configuration is in force) or `Unknown` (it has not reported for three periods)
    pub phase: String,
    pub generation: u64,
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    pub units: u32,
}

/// A wish to move a running block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MigrationSpec {
    pub service: Name,
    /// By default every block of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Name>,
    pub to: Target,
    /// The ranks that move; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<Vec<u32>>,
    /// Ranks that have not begun to move by then stay; `60s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// For people and for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Target {
    Site(Name),
    SiteSelector(Selector),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    pub api_version: String,
    /// `Migration`
    pub kind: String,
    pub metadata: Metadata,
    pub spec: MigrationSpec,
    pub status: MigrationStatus,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// `Preparing` (the target gets ready), `Moving`, `Succeeded`, `RolledBack` (by its deadline), `Failed`
    pub phase: String,
    pub from: Vec<Name>,
    pub to: Name,
    /// Ranks that are there, of those that shall be.
    pub moved: u32,
    pub ranks: u32,
    pub pause_ms_max: f64,
    pub history: Vec<PhaseAt>,
    pub operation: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseAt {
    pub phase: String,
    pub at_ms: u64,
}

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    pub id: String,
    /// `apply`, `delete`, `scale`, `migrate`
    pub kind: String,
    /// The resource it is about: `/v1/services/NAME`.
    pub target: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed`
    pub phase: String,
    pub progress: Progress,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub created_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_at_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub step: u32,
    pub goal: u32,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An error, RFC 9457 (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// The field that is wrong, as a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// Why a block is where it is, and what the Learning Plane thinks of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub service: Name,
    pub blocks: Vec<BlockExplanation>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockExplanation {
    pub block: Name,
    /// The planner's reasons, a sentence each: chosen and rejected sites.
    pub placement: Vec<String>,
    /// Newest first.
    pub decisions: Vec<Decision>,
}

/// One decision of the Learning Plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    pub id: String,
    pub at_ms: u64,
    pub mode: PolicyMode,
    /// What was looked at: name to value, with unit and age in the text.
    pub inputs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// The line of the policy that decided, and its text.
    pub branch: String,
    /// What was decided: `migrate_service to cloud`, `Nothing_to_do`.
    pub action: String,
    /// Every site that was considered.
    pub alternatives: Vec<Alternative>,
    /// What became of it: `done`, `shadow`, `held: …`, `failed: …`, `pending`
    pub outcome: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    pub model: String,
    pub as_of_ms: u64,
    pub target_ms: u64,
    /// Quantile (`0.5`) to seconds.
    pub quantiles: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    pub site: Name,
    /// Seconds an iteration would take there; absent: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// Why it was taken or not.
    pub why: String,
}
