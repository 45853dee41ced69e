//! The resources of `/v1`.

use std::collections::BTreeMap;

use ids::{Labels, Name, Selector};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{schema, whole};

pub const API_VERSION: &str = "blocks/v1beta1";

/// What every resource has. Users write `name` and `labels`; the rest is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[schema(value_type = schema::Name)]
    pub name: Name,
    #[serde(default)]
    #[schema(value_type = schema::Labels)]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub id: Option<String>,
    /// Opaque; for If-Match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub resource_version: Option<String>,
    /// Counts the changes of `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub generation: Option<u64>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub created_at: Option<String>,
}

/// An application: blocks that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    #[schema(value_type = schema::ApiVersion)]
    pub api_version: String,
    #[schema(value_type = schema::ServiceKind)]
    pub kind: String,
    pub metadata: Metadata,
    pub spec: ServiceSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub status: Option<ServiceStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    #[schema(min_items = 1, max_items = 32)]
    pub blocks: Vec<Block>,
}

/// A part of a service. In JSON, what its kind has stands beside what all blocks have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "FlatBlock", into = "FlatBlock")]
pub struct Block {
    pub name: Name,
    /// How many independent units run the same; the one field that `scale` changes.
    pub replicas: u32,
    pub placement: Placement,
    pub kind: BlockKind,
    pub kpi: Option<Kpi>,
    /// What the Learning Plane may do for this block; without it, it only watches.
    pub policy: Option<Policy>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BlockKind {
    CellDeployment(CellDeployment),
}

/// An MPI program as WebAssembly. All of it but `checkpoints` is immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct CellDeployment {
    /// `sha256:…`, uploaded before with PUT /v1/modules/{digest}.
    pub module: String,
    pub ranks: u32,
    /// What follows the program's name, which is the block's.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub checkpoints: Option<Checkpoints>,
    pub limits: Limits,
}

// One object, because `#[serde(flatten)]` would forget where in the text something is wrong.
/// A part of a service: an MPI program as WebAssembly. What it runs is immutable: all but replicas, placement, checkpoints, KPI and policy.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Block)]
struct FlatBlock {
    #[schema(value_type = schema::Name)]
    name: Name,
    kind: KindName,
    /// How many independent units run the same; the one field that `scale` changes.
    #[serde(default = "one", deserialize_with = "whole::number")]
    #[schema(maximum = 256, default = 1)]
    replicas: u32,
    #[serde(default)]
    placement: Placement,
    /// Uploaded before with PUT /v1/modules/{digest}.
    #[schema(value_type = schema::ModuleDigest)]
    module: String,
    /// How many processes the program has.
    #[serde(deserialize_with = "whole::number")]
    #[schema(minimum = 1, maximum = 256)]
    ranks: u32,
    /// The program's arguments, its name first.
    #[serde(default)]
    #[schema(value_type = Vec<schema::Argument>, max_items = 256)]
    args: Vec<String>,
    #[serde(default)]
    #[schema(value_type = schema::Environment)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    #[schema(max_items = 16)]
    mounts: Vec<Mount>,
    /// Without it, a block that loses a rank has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoints: Option<Checkpoints>,
    #[serde(default)]
    limits: Limits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kpi: Option<Kpi>,
    /// What the Learning Plane may do for this block; without it, it only watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
}

fn one() -> u32 {
    1
}

#[derive(Serialize, Deserialize, ToSchema)]
enum KindName {
    CellDeployment,
}

impl From<FlatBlock> for Block {
    fn from(flat: FlatBlock) -> Self {
        let KindName::CellDeployment = flat.kind;
        Self {
            name: flat.name,
            replicas: flat.replicas,
            placement: flat.placement,
            kind: BlockKind::CellDeployment(CellDeployment {
                module: flat.module,
                ranks: flat.ranks,
                args: flat.args,
                env: flat.env,
                mounts: flat.mounts,
                checkpoints: flat.checkpoints,
                limits: flat.limits,
            }),
            kpi: flat.kpi,
            policy: flat.policy,
        }
    }
}

impl From<Block> for FlatBlock {
    fn from(block: Block) -> Self {
        let BlockKind::CellDeployment(cell) = block.kind;
        Self {
            name: block.name,
            kind: KindName::CellDeployment,
            replicas: block.replicas,
            placement: block.placement,
            module: cell.module,
            ranks: cell.ranks,
            args: cell.args,
            env: cell.env,
            mounts: cell.mounts,
            checkpoints: cell.checkpoints,
            limits: cell.limits,
            kpi: block.kpi,
            policy: block.policy,
        }
    }
}

impl utoipa::PartialSchema for Block {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        FlatBlock::schema()
    }
}

impl ToSchema for Block {
    fn schemas(found: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        FlatBlock::schemas(found);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The directory in the program.
    #[schema(value_type = schema::MountPath)]
    pub path: String,
    /// What it is: a directory of the site, the same at every site that the block may be at.
    #[schema(value_type = schema::MountSource)]
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoints {
    /// `30s`
    #[schema(value_type = schema::Duration)]
    pub every: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// `1Gi` by default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Bytes>)]
    pub memory: Option<String>,
    /// `64Mi` by default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Bytes>)]
    pub log: Option<String>,
}

/// Where a block may be: at every site whose labels match. Among them, the one with the most free processors is taken, and kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Where it begins. Changed, it moves nothing: it cannot exclude where the block runs, which is for migrations to change.
    #[serde(default)]
    #[schema(value_type = schema::Selector)]
    pub site_selector: Selector,
    /// Where it may be moved to; by default wherever it may begin, and every other site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Selector>)]
    pub migrate_to: Option<Selector>,
}

/// What is promised to whoever uses the block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kpi {
    /// Which completions count as iterations: `CALL`, `CALL/COMM` or `CALL/COMM/TAG`, e.g. `MPI_Allreduce`; by default the most frequent
    /// collective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Iteration>)]
    pub iteration: Option<String>,
    /// The longest time of an iteration that is in order: `200ms`.
    #[schema(value_type = schema::Duration)]
    pub max: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub mode: PolicyMode,
    /// The policy's text (docs/policies.md); by default one that moves the block away from a forecast violation of its KPI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyText>)]
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// It decides, and says what it would do.
    Shadow,
    /// It acts.
    Active,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub observed_generation: u64,
    /// `Pending`, `Progressing`, `InSync`, `Degraded`, `Succeeded`, `Failed`, `Unknown`, `Deleting`
    pub phase: String,
    pub conditions: Vec<Condition>,
    pub units: Vec<UnitStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// `org/service/block/replica`
    pub id: String,
    pub epoch: u64,
    /// A phase of the unit, or `Unknown` when its site has not reported lately.
    pub phase: String,
    pub reason: String,
    #[schema(value_type = schema::Name)]
    pub home: Name,
    /// Where it shall be, and where each rank is.
    #[schema(value_type = schema::Name)]
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RankStatus {
    pub rank: u32,
    #[schema(value_type = schema::Name)]
    pub site: Name,
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoveStatus {
    pub rank: u32,
    #[schema(value_type = schema::Name)]
    pub from: Name,
    #[schema(value_type = schema::Name)]
    pub to: Name,
    pub bytes: u64,
    pub pause_us: u64,
    pub resumed_at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    pub api_version: String,
    /// `Site`
    pub kind: String,
    pub metadata: Metadata,
    pub spec: SiteSpec,
    pub status: SiteStatus,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    pub cpu_share: f64,
    pub cpu_share_by: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationSpec {
    #[schema(value_type = schema::Name)]
    pub service: Name,
    /// By default every block of the service.
    #[schema(value_type = Option<schema::Name>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Name>,
    pub to: Target,
    /// The ranks that move; by default all.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::numbers"
    )]
    #[schema(value_type = Option<Vec<schema::Rank>>, min_items = 1, max_items = 256)]
    pub ranks: Option<Vec<u32>>,
    /// Ranks that have not begun to move by then stay; `60s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Duration>)]
    pub deadline: Option<String>,
    /// For people and for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Reason>)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    #[schema(value_type = schema::Name)]
    Site(Name),
    #[schema(value_type = schema::Selector)]
    SiteSelector(Selector),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    pub api_version: String,
    /// `Migration`
    pub kind: String,
    pub metadata: Metadata,
    pub spec: MigrationSpec,
    pub status: MigrationStatus,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// `Preparing` (the target gets ready), `Moving`, `Succeeded`, `RolledBack` (by its deadline), `Failed`
    pub phase: String,
    #[schema(value_type = Vec<schema::Name>)]
    pub from: Vec<Name>,
    #[schema(value_type = schema::Name)]
    pub to: Name,
    /// Ranks that are there, of those that shall be.
    pub moved: u32,
    pub ranks: u32,
    pub pause_ms_max: f64,
    pub history: Vec<PhaseAt>,
    pub operation: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseAt {
    pub phase: String,
    pub at_ms: u64,
}

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    pub id: String,
    /// `apply`, `delete`, `scale`, `migrate`, `adopt`
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

impl Operation {
    /// Nothing follows.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub step: u32,
    pub goal: u32,
}

/// How many units of a block shall run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scale {
    #[schema(value_type = schema::Name)]
    pub block: Name,
    #[serde(deserialize_with = "whole::number")]
    #[schema(maximum = 256)]
    pub replicas: u32,
}

/// Asks for what the policy of a block says of a path: its rules `apiRequest("path")` run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyRequest {
    #[schema(value_type = schema::Name)]
    pub block: Name,
    /// As it stands in the policy.
    #[schema(value_type = schema::RequestPath)]
    pub path: String,
}

/// A wish for a token with which one site may join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewJoinToken {
    /// The only site that may use it; by default any that is not known yet. One that is known gets a new certificate by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Name>)]
    pub site: Option<Name>,
    /// How long it can be used, at most `24h`; `1h` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Duration>)]
    pub ttl: Option<String>,
}

/// A token with which one site may join, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// For `cloudskin site --join`. A secret: it is shown once.
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Name>)]
    pub site: Option<Name>,
    /// RFC 3339.
    pub expires_at: String,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({:?}, until {})", self.site, self.expires_at)
    }
}

/// All units of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Units {
    pub items: Vec<UnitStatus>,
}

/// What rules have decided, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decisions {
    pub items: Vec<Decision>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why a block is where it is, and what the Learning Plane thinks of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    #[schema(value_type = schema::Name)]
    pub service: Name,
    pub blocks: Vec<BlockExplanation>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockExplanation {
    #[schema(value_type = schema::Name)]
    pub block: Name,
    /// The planner's reasons, a sentence each: chosen and rejected sites.
    pub placement: Vec<String>,
    /// Newest first.
    pub decisions: Vec<Decision>,
}

/// One decision of the Learning Plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// How often the same was decided in a row. In mode `shadow` all else is as it was the first time, otherwise as it was last.
    pub times: u32,
    /// When, after this decision to move, an iteration first took longer than the KPI allows; absent: none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violated_at_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    pub model: String,
    pub as_of_ms: u64,
    pub target_ms: u64,
    /// Quantile (`0.5`) to seconds.
    pub quantiles: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    #[schema(value_type = schema::Name)]
    pub site: Name,
    /// Seconds an iteration would take there; absent: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// Why it was taken or not.
    pub why: String,
}
