//! What a policy consists of, once names are resolved.

use std::time::Duration;

use super::Span;

/// A rule: when, and what then.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub at: Span,
    pub when: When,
    pub branches: Vec<Branch>,
}

#[derive(Clone, Debug)]
pub(crate) enum When {
    /// A chain without a trigger: at every period.
    Always,
    /// `WHEN intervalTrigger(5min, QoS_prediction(data))`
    Interval(Duration),
    /// `apiRequest("/analyze_qos")`
    Request(String),
}

/// `IF condition options THEN act`; the last, `ELSE`, has no condition.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub at: Span,
    pub condition: Option<Expr>,
    pub options: Options,
    pub act: Act,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `FOR m OF n`: it must have held at `m` of the last `n` samples, the newest included.
    pub held: (u32, u32),
    /// No move sooner than this after another.
    pub cooldown: Duration,
    /// How much better the destination must be.
    pub margin: Option<Margin>,
    /// At most so many moves in so long.
    pub budget: Option<(u32, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Margin {
    Ratio(f64),
    Seconds(f64),
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Nothing,
    /// `Call(NearbyOneActuator : migrate_service)`, to the best site if none is said.
    Migrate(Option<Expr>),
    /// `runWorkflow("prediction-pipeline", data)`
    Predict,
}

impl Options {
    pub(crate) const HELD: (u32, u32) = (2, 3);
    pub(crate) const COOLDOWN: Duration = Duration::from_secs(60);
    pub(crate) const MARGIN: Margin = Margin::Ratio(0.1);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            held: Self::HELD,
            cooldown: Self::COOLDOWN,
            margin: None,
            budget: None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub at: Span,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Number(f64),
    /// A time, seconds.
    Seconds(f64),
    Text(String),
    /// A `LET`, by its number.
    Let(usize),
    Name(Name),
    /// `predicted_qos(95%)`: the level.
    Predicted(Box<Expr>),
    /// `qos_at("cloud")`
    QosAt(Box<Expr>),
    /// `free_cpu("cloud")`
    FreeCpu(Box<Expr>),
    Not(Box<Expr>),
    Both(Logic, Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Arithmetic(Operator, Box<Expr>, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    AppCluster,
    Site,
    CurrentQos,
    QosAge,
    PredictedQos,
    KpiMax,
    BestSite,
    MoveTime,
    SuccessfulCall,
    Data,
}

impl Name {
    /// How the names are written, and what they are.
    pub(crate) const ALL: [(&'static str, Name, Type); 10] = [
        ("app_cluster", Name::AppCluster, Type::Text),
        ("site", Name::Site, Type::Text),
        ("current_qos", Name::CurrentQos, Type::Time),
        ("qos_age", Name::QosAge, Type::Time),
        ("predicted_qos", Name::PredictedQos, Type::Time),
        ("kpi_max", Name::KpiMax, Type::Time),
        ("best_site", Name::BestSite, Type::Text),
        ("move_time", Name::MoveTime, Type::Time),
        ("successful_call", Name::SuccessfulCall, Type::Truth),
        ("data", Name::Data, Type::Data),
    ];

    pub(crate) fn of(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(name, _, _)| *name == text);
        found.map(|(_, name, _)| *name)
    }

    pub(crate) fn text(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    pub(crate) fn kind(self) -> Type {
        Self::ALL[self as usize].2
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Truth,
    Number,
    Time,
    Text,
    Data,
}

impl Type {
    pub(crate) fn said(self) -> &'static str {
        match self {
            Self::Truth => "a condition",
            Self::Number => "a number without a unit",
            Self::Time => "a time",
            Self::Text => "a text",
            Self::Data => "data",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Plus,
    Minus,
    Times,
    Over,
}
