//! Tokens to rules, by recursive descent, one function for each rule of the grammar in docs/policies.md.

use std::time::Duration;

use super::lexer::Token;
use super::syntax::{
    Act, Branch, Comparison, Expr, Item, Logic, Margin, Name, Node, Operator, Options, When,
};
use super::{PolicyError, Span};

const ITEMS_MAX: usize = 64;
const BRANCHES_MAX: usize = 64;
const LETS_MAX: usize = 64;
const DEPTH_MAX: u32 = 32;
/// Operators in all expressions together; a LET counts with all of its own wherever it is used. So neither what follows LETs, as
/// `check`, `bounce` and `eval` do, nor what they make of them grows beyond this.
const OPERATORS_MAX: u32 = 512;
const HELD_MAX: u32 = 60;
const BUDGET_MAX: u32 = 16;

/// Larger numbers are slips of the pen, and smaller ones cannot overflow.
const NUMBER_MAX: f64 = 1e12;

const UNITS: [&str; 5] = ["us", "ms", "s", "min", "h"];

const KEYWORDS: [&str; 15] = [
    "WHEN", "IF", "THEN", "ELSEIF", "ELSE", "AND", "OR", "NOT", "LET", "FOR", "OF", "COOLDOWN",
    "MARGIN", "BUDGET", "PER",
];

/// What the parser makes; the checks look at it before it becomes a policy.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) items: Vec<Item>,
    pub(super) lets: Vec<Expr>,
    pub(super) uses_kpi: bool,
}

pub(super) fn parse(tokens: Vec<(Token, Span)>) -> Result<Parsed, PolicyError> {
    let mut parser = Parser {
        tokens,
        next: 0,
        names: Vec::new(),
        lets: Vec::new(),
        uses_kpi: false,
        depth: 0,
        n_operators: 0,
    };
    let mut items = Vec::new();
    while *parser.peek() != Token::End {
        let at = parser.at();
        if parser.takes("LET") {
            parser.definition()?;
            continue;
        }
        if items.len() == ITEMS_MAX {
            return Err(fail(at, format!("a policy has at most {ITEMS_MAX} rules")));
        }
        let when = parser.when()?;
        let branches = parser.chain()?;
        items.push(Item { at, when, branches });
    }
    if items.is_empty() {
        let message = "the policy has no rule: begin with WHEN, apiRequest(\"/…\") or IF";
        return Err(fail(parser.at(), message));
    }
    Ok(Parsed {
        items,
        lets: parser.lets,
        uses_kpi: parser.uses_kpi,
    })
}

fn fail(at: Span, message: impl std::fmt::Display) -> PolicyError {
    PolicyError::new(at, message)
}

/// Makes one node of two operands.
type Join = fn(Box<Expr>, Box<Expr>) -> Node;

struct Parser {
    /// The last is the end, and stays.
    tokens: Vec<(Token, Span)>,
    next: usize,
    /// Of `lets`, and how many operators each stands for.
    names: Vec<(String, u32)>,
    lets: Vec<Expr>,
    uses_kpi: bool,
    depth: u32,
    n_operators: u32,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    fn at(&self) -> Span {
        self.tokens[self.next].1
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    /// Takes this word or mark, if it is next.
    fn takes(&mut self, wanted: &str) -> bool {
        let is_next = match self.peek() {
            Token::Word(word) => word == wanted,
            Token::Mark(mark) => *mark == wanted,
            _ => false,
        };
        if is_next {
            self.next += 1;
        }
        is_next
    }

    fn expect(&mut self, wanted: &str, why: &str) -> Result<(), PolicyError> {
        if self.takes(wanted) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{wanted}`{why}")))
    }

    fn unexpected(&self, wanted: &str) -> PolicyError {
        let found = self.peek().said();
        fail(self.at(), format!("found {found}; expected {wanted}"))
    }

    fn definition(&mut self) -> Result<(), PolicyError> {
        let at = self.at();
        let Token::Word(name) = self.advance() else {
            return Err(fail(at, "a name comes after LET: LET limit = 200ms"));
        };
        let is_taken = Name::of(&name).is_some()
            || KEYWORDS.contains(&name.as_str())
            || ["qos_at", "free_cpu"].contains(&name.as_str())
            || self.names.iter().any(|(taken, _)| *taken == name);
        if is_taken {
            return Err(fail(
                at,
                format!("`{name}` has a meaning already; take another name"),
            ));
        }
        if self.lets.len() == LETS_MAX {
            return Err(fail(at, format!("a policy has at most {LETS_MAX} LETs")));
        }
        self.expect("=", "")?;
        let before = self.n_operators;
        let value = self.or()?;
        self.names.push((name, self.n_operators - before));
        self.lets.push(value);
        Ok(())
    }

    fn when(&mut self) -> Result<When, PolicyError> {
        if self.takes("WHEN") {
            return self.trigger();
        }
        if self.takes("apiRequest") {
            self.expect("(", "")?;
            let at = self.at();
            let Token::Text(path) = self.advance() else {
                return Err(fail(
                    at,
                    "the path of the request is missing: apiRequest(\"/analyze_qos\")",
                ));
            };
            if !path.starts_with('/') {
                return Err(fail(at, format!("the path must begin with /: \"/{path}\"")));
            }
            self.expect(")", "")?;
            return Ok(When::Request(path));
        }
        if *self.peek() == Token::Word("IF".to_owned()) {
            return Ok(When::Always);
        }
        Err(self.unexpected("a rule: WHEN, apiRequest(\"/…\"), IF or LET"))
    }

    fn trigger(&mut self) -> Result<When, PolicyError> {
        if !self.takes("intervalTrigger") {
            return Err(self.unexpected("a trigger: intervalTrigger(5min, QoS_prediction(data))"));
        }
        self.expect("(", "")?;
        let every = self.duration()?;
        self.expect(",", " and what is called: QoS_prediction(data)")?;
        if !self.takes("QoS_prediction") {
            return Err(self.unexpected("`QoS_prediction(data)`, which is what a trigger can call"));
        }
        self.expect("(", "")?;
        self.expect("data", ", the measurements of the block")?;
        self.expect(")", "")?;
        self.expect(")", "")?;
        Ok(When::Interval(every))
    }

    fn chain(&mut self) -> Result<Vec<Branch>, PolicyError> {
        let mut branches = Vec::new();
        let at = self.at();
        self.expect("IF", ", the condition of the rule")?;
        branches.push(self.branch(at)?);
        loop {
            let at = self.at();
            if self.takes("ELSEIF") {
                if branches.len() == BRANCHES_MAX {
                    return Err(fail(
                        at,
                        format!("a rule has at most {BRANCHES_MAX} branches"),
                    ));
                }
                branches.push(self.branch(at)?);
            } else if self.takes("ELSE") {
                self.takes("THEN");
                branches.push(Branch {
                    at,
                    condition: None,
                    options: Options::default(),
                    act: self.act()?,
                });
                return Ok(branches);
            } else {
                return Ok(branches);
            }
        }
    }

    fn branch(&mut self, at: Span) -> Result<Branch, PolicyError> {
        let condition = Some(self.or()?);
        let options = self.options()?;
        self.expect("THEN", " and what to do")?;
        Ok(Branch {
            at,
            condition,
            options,
            act: self.act()?,
        })
    }

    fn options(&mut self) -> Result<Options, PolicyError> {
        let mut options = Options::default();
        let mut seen: Vec<&str> = Vec::new();
        let words = ["FOR", "COOLDOWN", "MARGIN", "BUDGET"];
        loop {
            let at = self.at();
            let Some(word) = words.into_iter().find(|word| self.takes(word)) else {
                return Ok(options);
            };
            if seen.contains(&word) {
                return Err(fail(at, format!("{word} is said twice")));
            }
            seen.push(word);
            match word {
                "FOR" => {
                    let m = self.count(HELD_MAX)?;
                    self.expect("OF", ": FOR 2 OF 3")?;
                    let n = self.count(HELD_MAX)?;
                    if m > n {
                        return Err(fail(at, format!("FOR {m} OF {n} cannot hold")));
                    }
                    options.held = (m, n);
                }
                "COOLDOWN" => options.cooldown = self.duration()?,
                "MARGIN" => options.margin = Some(self.margin()?),
                _ => {
                    let n = self.count(BUDGET_MAX)?;
                    self.expect("PER", ": BUDGET 3 PER 1h")?;
                    options.budget = Some((n, self.duration()?));
                }
            }
        }
    }

    fn act(&mut self) -> Result<Act, PolicyError> {
        if self.takes("Nothing_to_do") {
            return Ok(Act::Nothing);
        }
        if self.takes("Call") {
            self.expect("(", "")?;
            if !self.takes("NearbyOneActuator") {
                return Err(self.unexpected("an actuator: NearbyOneActuator"));
            }
            self.expect(":", "")?;
            if !self.takes("migrate_service") {
                return Err(self.unexpected("what NearbyOneActuator can do: migrate_service"));
            }
            let to = if self.takes(",") {
                Some(self.atom()?)
            } else {
                None
            };
            self.expect(")", "")?;
            return Ok(Act::Migrate(to));
        }
        if self.takes("runWorkflow") {
            self.expect("(", "")?;
            let at = self.at();
            if self.advance() != Token::Text("prediction-pipeline".to_owned()) {
                let message = "this workflow is not known; there is \"prediction-pipeline\"";
                return Err(fail(at, message));
            }
            self.expect(",", " and the data")?;
            self.expect("data", ", the measurements of the block")?;
            self.expect(")", "")?;
            return Ok(Act::Predict);
        }
        Err(self.unexpected(
            "an action: Nothing_to_do, Call(NearbyOneActuator : migrate_service) or runWorkflow(\"prediction-pipeline\", data)",
        ))
    }

    fn count(&mut self, max: u32) -> Result<u32, PolicyError> {
        let at = self.at();
        let wanted = format!("a whole number from 1 to {max} is needed here");
        match self.advance() {
            Token::Number(value, unit) if unit.is_empty() => (1..=max)
                .find(|n| f64::from(*n) == value)
                .ok_or_else(|| fail(at, wanted)),
            _ => Err(fail(at, wanted)),
        }
    }

    fn duration(&mut self) -> Result<Duration, PolicyError> {
        let at = self.at();
        let number = self.number()?;
        let Node::Seconds(seconds) = number.node else {
            return Err(fail(
                at,
                "a time is needed here, with its unit: 500ms, 60s, 5min, 1h",
            ));
        };
        // Shorter than any period, or longer than a year: a slip of the pen.
        if !(0.1..=366.0 * 86_400.0).contains(&seconds) {
            return Err(fail(at, "this time must be between 100ms and 8784h"));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    fn margin(&mut self) -> Result<Margin, PolicyError> {
        let at = self.at();
        let is_percent = matches!(self.peek(), Token::Number(_, unit) if unit == "%");
        match self.number()?.node {
            Node::Seconds(seconds) => Ok(Margin::Seconds(seconds)),
            Node::Number(ratio) if is_percent && ratio < 1.0 => Ok(Margin::Ratio(ratio)),
            _ => Err(fail(
                at,
                "a margin is a part below 100%, or a time: MARGIN 10%, MARGIN 20ms",
            )),
        }
    }

    fn or(&mut self) -> Result<Expr, PolicyError> {
        self.chain_of(Self::and, |parser| {
            parser
                .takes("OR")
                .then_some(|a, b| Node::Both(Logic::Or, a, b))
        })
    }

    fn and(&mut self) -> Result<Expr, PolicyError> {
        self.chain_of(Self::not, |parser| {
            parser
                .takes("AND")
                .then_some(|a, b| Node::Both(Logic::And, a, b))
        })
    }

    fn not(&mut self) -> Result<Expr, PolicyError> {
        let at = self.at();
        if !self.takes("NOT") {
            return self.comparison();
        }
        self.spend(1, at)?;
        let inner = self.deeper(Self::not)?;
        let node = Node::Not(Box::new(inner));
        Ok(Expr { at, node })
    }

    fn comparison(&mut self) -> Result<Expr, PolicyError> {
        let left = self.sum()?;
        let marks = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let at = self.at();
        for (mark, comparison) in marks {
            if self.takes(mark) {
                self.spend(1, at)?;
                let right = self.sum()?;
                let node = Node::Compare(comparison, Box::new(left), Box::new(right));
                return Ok(Expr { at, node });
            }
        }
        if self.takes("=") {
            return Err(fail(at, "write == to compare"));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr, PolicyError> {
        self.chain_of(Self::term, |parser| {
            if parser.takes("+") {
                Some(|a, b| Node::Arithmetic(Operator::Plus, a, b))
            } else if parser.takes("-") {
                Some(|a, b| Node::Arithmetic(Operator::Minus, a, b))
            } else {
                None
            }
        })
    }

    fn term(&mut self) -> Result<Expr, PolicyError> {
        self.chain_of(Self::atom, |parser| {
            if parser.takes("*") {
                Some(|a, b| Node::Arithmetic(Operator::Times, a, b))
            } else if parser.takes("/") {
                Some(|a, b| Node::Arithmetic(Operator::Over, a, b))
            } else {
                None
            }
        })
    }

    /// Operands with operators of one rank between them, from left to right.
    fn chain_of(
        &mut self,
        operand: fn(&mut Self) -> Result<Expr, PolicyError>,
        operator: fn(&mut Self) -> Option<Join>,
    ) -> Result<Expr, PolicyError> {
        let mut left = operand(self)?;
        loop {
            let at = self.at();
            let Some(join) = operator(self) else {
                return Ok(left);
            };
            self.spend(1, at)?;
            let right = operand(self)?;
            let node = join(Box::new(left), Box::new(right));
            left = Expr { at, node };
        }
    }

    fn atom(&mut self) -> Result<Expr, PolicyError> {
        let at = self.at();
        match self.peek().clone() {
            Token::Number(..) => self.number(),
            Token::Text(text) => {
                self.advance();
                let node = Node::Text(text);
                Ok(Expr { at, node })
            }
            Token::Mark("(") => {
                self.advance();
                let inner = self.deeper(Self::or)?;
                self.expect(")", "")?;
                Ok(inner)
            }
            Token::Word(word) if !KEYWORDS.contains(&word.as_str()) => {
                self.advance();
                let node = self.named(&word, at)?;
                Ok(Expr { at, node })
            }
            _ => Err(self.unexpected("a value: a name, a number with its unit, or a \"text\"")),
        }
    }

    fn named(&mut self, word: &str, at: Span) -> Result<Node, PolicyError> {
        let call: Option<fn(Box<Expr>) -> Node> = match word {
            "qos_at" => Some(Node::QosAt),
            "free_cpu" => Some(Node::FreeCpu),
            "predicted_qos" if *self.peek() == Token::Mark("(") => Some(Node::Predicted),
            _ => None,
        };
        if let Some(call) = call {
            self.spend(1, at)?;
            self.expect("(", "")?;
            let argument = self.deeper(Self::or)?;
            self.expect(")", "")?;
            return Ok(call(Box::new(argument)));
        }
        if let Some(name) = Name::of(word) {
            self.uses_kpi |= name == Name::KpiMax;
            return Ok(Node::Name(name));
        }
        if let Some(idx) = self.names.iter().position(|(name, _)| name == word) {
            self.spend(1 + self.names[idx].1, at)?;
            return Ok(Node::Let(idx));
        }
        let known: Vec<&str> = Name::ALL.iter().map(|(name, _, _)| *name).collect();
        Err(fail(
            at,
            format!(
                "`{word}` is not known; there are {}, qos_at(SITE), free_cpu(SITE) and what LET defines before",
                known.join(", ")
            ),
        ))
    }

    fn number(&mut self) -> Result<Expr, PolicyError> {
        let at = self.at();
        let Token::Number(value, unit) = self.advance() else {
            return Err(fail(at, "a number is needed here"));
        };
        if value > NUMBER_MAX {
            return Err(fail(at, "this number is too large"));
        }
        if let Token::Word(word) = self.peek()
            && unit.is_empty()
            && UNITS.contains(&word.as_str())
        {
            let message = format!("a unit stands beside its number: write {value}{word}");
            return Err(fail(at, message));
        }
        let node = match unit.as_str() {
            "" => Node::Number(value),
            "%" => Node::Number(value / 100.0),
            "us" => Node::Seconds(value / 1e6),
            "ms" => Node::Seconds(value / 1e3),
            "s" => Node::Seconds(value),
            "min" => Node::Seconds(value * 60.0),
            "h" => Node::Seconds(value * 3600.0),
            _ => {
                return Err(fail(
                    at,
                    format!("the unit `{unit}` is not known; there are us, ms, s, min, h and %"),
                ));
            }
        };
        Ok(Expr { at, node })
    }

    /// Takes so many operators from what a policy may have.
    fn spend(&mut self, n_operators: u32, at: Span) -> Result<(), PolicyError> {
        self.n_operators += n_operators;
        if self.n_operators > OPERATORS_MAX {
            return Err(fail(
                at,
                format!(
                    "the policy has more than {OPERATORS_MAX} operators, where a LET counts with all of its own wherever it is used"
                ),
            ));
        }
        Ok(())
    }

    /// Parses what is nested in what is being parsed.
    fn deeper(
        &mut self,
        parse: fn(&mut Self) -> Result<Expr, PolicyError>,
    ) -> Result<Expr, PolicyError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(fail(
                self.at(),
                "this is nested too deeply; split it with LET",
            ));
        }
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }
}
