use std::time::Duration;

use proptest::prelude::*;

use super::eval::{self, Facts};
use super::syntax::{Act, When};
use super::{Policy, STANDARD};
use crate::core::sites::Outlook;

const LISTING_4: &str = include_str!("fixtures/listing4.policy");

/// Everything is known: at the edge, 250 ms.
fn facts() -> Facts {
    Facts {
        site: Ok("site-1".to_owned()),
        cluster: Ok("edge".to_owned()),
        current_qos: Ok(0.25),
        qos_age: Ok(0.5),
        predicted_qos: Ok([0.1, 0.2, 0.3, 0.4, 0.5]),
        kpi_max: Ok(0.35),
        move_time: Duration::from_secs(1),
        free_cpu: Ok(0.0),
        others: vec![other("site-2", Some(0.05), 1.5), other("site-3", None, 0.0)],
        call: Err("no call".to_owned()),
    }
}

fn other(site: &str, predicted: Option<f64>, free: f64) -> Outlook {
    Outlook {
        site: site.parse().expect("a name"),
        predicted,
        free: Ok(free),
        why: "stale".to_owned(),
        left: None,
    }
}

/// The first branch of the first rule that holds.
fn branch(policy: &Policy, rule: usize, facts: &Facts) -> Result<Option<usize>, String> {
    for (idx, branch) in policy.items[rule].branches.iter().enumerate() {
        if eval::holds(branch, &policy.lets, facts)? {
            return Ok(Some(idx));
        }
    }
    Ok(None)
}

#[test]
fn listing_4_parses_and_means_what_it_says() {
    let policy = Policy::parse(LISTING_4).expect("verbatim");
    let [analyzing, planning] = &policy.items[..] else {
        panic!("two rules: {:?}", policy.items);
    };
    assert!(matches!(analyzing.when, When::Interval(every) if every.as_secs() == 300));
    assert!(matches!(&planning.when, When::Request(path) if path == "/analyze_qos"));
    assert!(matches!(analyzing.branches[0].act, Act::Predict));
    let acts: Vec<_> = planning.branches.iter().map(|b| &b.act).collect();
    assert!(matches!(
        acts[..],
        [Act::Migrate(None), Act::Migrate(None), Act::Nothing]
    ));
    let check = |cluster: &str, qos: Result<f64, String>, expected: Result<Option<usize>, &str>| {
        let facts = Facts {
            cluster: Ok(cluster.to_owned()),
            current_qos: qos,
            ..facts()
        };
        let found = branch(&policy, 1, &facts);
        assert_eq!(found, expected.map_err(str::to_owned), "{cluster}");
    };
    check("edge", Ok(0.201), Ok(Some(0)));
    check("edge", Ok(0.2), Ok(Some(2)));
    check("cloud", Ok(0.044), Ok(Some(1)));
    check("cloud", Ok(0.25), Ok(Some(2)));
    check("elsewhere", Ok(9.0), Ok(Some(2)));
    check("edge", Err("stale".to_owned()), Err("stale"));
    // Neither branch is about this site, whatever the measurement would be.
    check("elsewhere", Err("stale".to_owned()), Ok(Some(2)));
    for (call, expected) in [(true, Some(0)), (false, None)] {
        let facts = Facts {
            call: Ok(call),
            ..facts()
        };
        assert_eq!(branch(&policy, 0, &facts), Ok(expected));
    }
}

#[test]
fn the_standard_policy_is_one_and_needs_a_kpi() {
    assert!(Policy::standard().uses_kpi());
    assert!(!Policy::parse(LISTING_4).expect("a policy").uses_kpi());
    assert_eq!(branch(&Policy::standard(), 0, &facts()), Ok(Some(0)));
}

/// docs/policies.md is what users go by.
#[test]
fn the_reference_says_what_is_true() {
    let reference = include_str!("../../../../../../docs/policies.md");
    for (name, _, _) in super::syntax::Name::ALL {
        assert!(
            reference.contains(&format!("\n| `{name}`")) || name == "data",
            "{name}"
        );
    }
    let (_, standard) = STANDARD.split_once('\n').expect("a comment and a rule");
    assert!(reference.contains(&format!("```text\n{standard}```")));
    let mut examples = 0;
    for block in reference.split("```text\n").skip(1) {
        let (block, _) = block.split_once("```").expect("it ends");
        if !block.starts_with("IF") {
            continue;
        }
        examples += 1;
        let Some((rule, complaint)) = block.split_once("line 2, ") else {
            Policy::parse(block).expect(block);
            continue;
        };
        let error = Policy::parse(rule).expect_err(rule).to_string();
        assert_eq!(
            error,
            format!("line 2, {}", complaint.trim().replace('\n', " "))
        );
    }
    assert_eq!(examples, 2);
}

#[test]
fn expressions() {
    let check = |condition: &str, expected: Result<bool, ()>| {
        let text = format!("LET limit = 100ms * 2\nIF {condition} THEN Nothing_to_do");
        let policy = Policy::parse(&text).unwrap_or_else(|e| panic!("{condition}: {e}"));
        let found = eval::holds(&policy.items[0].branches[0], &policy.lets, &facts());
        assert_eq!(found.map_err(drop), expected, "{condition}");
    };
    check("current_qos > limit", Ok(true));
    check("current_qos > 0.3s", Ok(false));
    check("current_qos >= 250ms AND 250000us >= current_qos", Ok(true));
    check("1h > 59min", Ok(true));
    check("predicted_qos > 299ms AND predicted_qos < 301ms", Ok(true));
    check(
        "predicted_qos(95%) > 0.45s AND predicted_qos(0.05) < 0.15s",
        Ok(true),
    );
    check("current_qos / 1s + 2 * 3 < 6.3", Ok(true));
    check("(current_qos + 50ms) * 2 > 599ms", Ok(true));
    check("current_qos - 50ms - 50ms < 151ms", Ok(true));
    check("kpi_max * 50% < current_qos", Ok(true));
    check("NOT app_cluster == \"cloud\"", Ok(true));
    check("app_cluster != \"edge\" OR site == \"site-1\"", Ok(true));
    check("NOT (current_qos < 1s AND qos_age > 1s)", Ok(true));
    check(
        "qos_at(best_site) < 100ms AND free_cpu(\"site-2\") > 1",
        Ok(true),
    );
    check("move_time < 2s", Ok(true));
    // What is not known makes unknown what depends on it, and nothing else.
    check("qos_at(\"site-3\") < 100ms", Err(()));
    check("NOT qos_at(\"site-3\") < 100ms", Err(()));
    check("qos_at(\"nowhere\") < 100ms", Err(()));
    check("qos_at(\"site-3\") < 100ms AND current_qos > 1s", Ok(false));
    check("qos_at(\"site-3\") < 100ms OR current_qos < 1s", Ok(true));
    check("qos_at(\"site-3\") < 100ms AND current_qos < 1s", Err(()));
    check("1 / 0 > 1", Err(()));
}

#[test]
fn options_are_read() {
    let text = "IF current_qos > 1s FOR 3 OF 5 COOLDOWN 2min MARGIN 20ms BUDGET 2 PER 1h\n\
                THEN Call(NearbyOneActuator : migrate_service, best_site)";
    let policy = Policy::parse(text).expect("a policy");
    let options = &policy.items[0].branches[0].options;
    assert_eq!(options.held, (3, 5));
    assert_eq!(options.cooldown.as_secs(), 120);
    assert_eq!(options.margin, Some(super::syntax::Margin::Seconds(0.02)));
    let (n, per) = options.budget.expect("a budget");
    assert_eq!((n, per.as_secs()), (2, 3600));
}

/// A text, where its mistake is, and words of the message.
type Mistake = (&'static str, (u32, u32), &'static str);

#[track_caller]
fn check_mistakes(mistakes: &[Mistake], around: (&str, &str)) {
    for (text, place, words) in mistakes {
        let text = format!("{}{text}{}", around.0, around.1);
        let error = Policy::parse(&text).expect_err(&text);
        assert_eq!((error.line, error.column), *place, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
}

#[test]
fn mistakes_in_conditions_are_named_with_their_place() {
    let mistakes: [Mistake; 26] = [
        ("current_qos > 200", (2, 18), "write 200ms or 200s"),
        ("0.2 < current_qos", (2, 4), "write 0.2ms or 0.2s"),
        ("current_qos + 5 > 1s", (2, 18), "5ms or 5s"),
        ("current_qos > 200mz", (2, 18), "us, ms, s, min, h and %"),
        ("current_qos > 200 ms", (2, 18), "write 200ms"),
        ("qos_now > 200ms", (2, 4), "`qos_now` is not known"),
        ("current_qos", (2, 4), "a condition is needed"),
        ("current_qos = 200ms", (2, 16), "write =="),
        ("current_qos == 200ms", (2, 16), "never quite equal"),
        ("app_cluster > \"edge\"", (2, 16), "no order"),
        ("app_cluster == 3", (2, 16), "a text cannot be compared"),
        ("app_cluster * 3 == 3", (2, 16), "cannot be calculated"),
        ("successful_call", (2, 4), "begins with WHEN"),
        ("data == data", (2, 4), "`data`"),
        ("predicted_qos(93%) > 1s", (2, 18), "95%"),
        ("qos_at(5) > 1s", (2, 11), "a text is needed"),
        ("current_qos > 1s FOR 3 OF 2", (2, 21), "cannot hold"),
        ("current_qos > 1s FOR 2.5 OF 3", (2, 25), "whole number"),
        ("current_qos > 1s FOR 2 OF 3 FOR 2 OF 3", (2, 32), "twice"),
        ("current_qos > 1s COOLDOWN 60", (2, 30), "unit"),
        ("current_qos > 1s COOLDOWN 0s", (2, 30), "between"),
        ("current_qos > 1s MARGIN 0.1", (2, 28), "MARGIN 10%"),
        ("current_qos > 1s MARGIN 100%", (2, 28), "MARGIN 10%"),
        ("current_qos ; 1s", (2, 16), "';'"),
        ("app_cluster == \"ed", (2, 19), "close it"),
        ("1.2.3 > 1", (2, 4), "`1.2.3`"),
    ];
    check_mistakes(&mistakes, ("\nIF ", "\nTHEN Nothing_to_do"));
}

#[test]
fn mistakes_in_rules_are_named_with_their_place() {
    let mistakes: [Mistake; 10] = [
        ("IF current_qos > 1s AND\nTHEN", (2, 1), "expected a value"),
        ("", (1, 1), "no rule"),
        ("# only this", (1, 12), "no rule"),
        ("THEN", (1, 1), "expected a rule"),
        ("LET current_qos = 1s", (1, 5), "has a meaning"),
        ("LET a = b LET b = 1", (1, 9), "`b` is not known"),
        (
            "WHEN cronTrigger(\"* *\", QoS_prediction(data))",
            (1, 6),
            "intervalTrigger",
        ),
        (
            "WHEN intervalTrigger(5, QoS_prediction(data))",
            (1, 22),
            "5min",
        ),
        (
            "WHEN intervalTrigger(5min, guess(data))",
            (1, 28),
            "QoS_prediction",
        ),
        ("apiRequest(\"analyze\")", (1, 12), "begin with /"),
    ];
    check_mistakes(&mistakes, ("", ""));
}

#[test]
fn mistakes_in_actions_are_named_with_their_place() {
    let mistakes: [Mistake; 5] = [
        ("Do_something", (1, 26), "Nothing_to_do"),
        ("Call(Kubernetes : scale)", (1, 31), "NearbyOneActuator"),
        (
            "Call(NearbyOneActuator : delete_service)",
            (1, 51),
            "migrate_service",
        ),
        (
            "Call(NearbyOneActuator : migrate_service, 5)",
            (1, 68),
            "as the destination",
        ),
        (
            "runWorkflow(\"train\", data)",
            (1, 38),
            "prediction-pipeline",
        ),
    ];
    check_mistakes(&mistakes, ("IF current_qos > 1s THEN ", ""));
    let looped = "apiRequest(\"/analyze_qos\") IF current_qos > 1s THEN runWorkflow(\"prediction-pipeline\", data)";
    check_mistakes(&[(looped, (1, 28), "cannot be run from there")], ("", ""));
}

/// Two branches: condition and destination of each, the best site if it is empty.
type Pair = [(&'static str, &'static str); 2];

fn both(pair: Pair) -> Result<Policy, super::PolicyError> {
    let branch = |(condition, to): (&str, &str)| {
        // `edge:` and `cloud:` say where the branch applies.
        let condition = match condition.split_once(": ") {
            Some((at, rest)) => format!("app_cluster == \"{at}\" AND {rest}"),
            None => condition.to_owned(),
        };
        let to = if to.is_empty() {
            String::new()
        } else {
            format!(", \"{to}\"")
        };
        format!("IF {condition} THEN Call(NearbyOneActuator : migrate_service{to})")
    };
    Policy::parse(&format!("{}\nELSE{}", branch(pair[0]), branch(pair[1])))
}

#[test]
fn back_and_forth_is_refused() {
    let pairs: [Pair; 11] = [
        [
            ("edge: current_qos > 100ms", ""),
            ("cloud: current_qos < 100ms", ""),
        ],
        [
            ("edge: current_qos > 100ms", ""),
            ("cloud: current_qos < 120ms", ""),
        ],
        [
            ("edge: 100ms < current_qos", ""),
            ("cloud: NOT current_qos > 0.12s", ""),
        ],
        [
            ("app_cluster == \"edge\"", ""),
            ("app_cluster == \"cloud\"", ""),
        ],
        [
            ("edge: predicted_qos > kpi_max", ""),
            ("cloud: predicted_qos(90%) < kpi_max * 110%", ""),
        ],
        [
            ("edge: kpi_max * 2 < predicted_qos", ""),
            ("cloud: predicted_qos / 3 < kpi_max", ""),
        ],
        [
            ("edge: current_qos > 100ms", "cloud"),
            ("cloud: current_qos > 50ms", "edge"),
        ],
        [
            ("current_qos > 100ms", "cloud"),
            ("current_qos < 200ms", "edge"),
        ],
        [
            ("edge: (current_qos > 100ms OR current_qos > 1s)", ""),
            ("cloud: current_qos < 200ms", ""),
        ],
        [
            ("edge: NOT (current_qos < 100ms AND qos_age < 1s)", ""),
            ("cloud: current_qos < 200ms", ""),
        ],
        [
            ("edge: qos_at(\"cloud\") < 100ms", ""),
            ("cloud: 50ms < qos_at(\"cloud\")", ""),
        ],
    ];
    for pair in pairs {
        let error = both(pair).expect_err(&format!("{pair:?}"));
        assert!(
            error.message.contains("back and forth"),
            "{pair:?}: {error}"
        );
        assert_eq!(error.line, 2);
    }
    let lets = "LET high = 100ms LET slow = current_qos > high LET there = \"edge\"\n";
    let go = "Call(NearbyOneActuator : migrate_service)";
    let rules = format!(
        "{lets}IF app_cluster == there AND slow THEN {go} ELSEIF app_cluster != there AND NOT slow THEN {go}"
    );
    Policy::parse(&rules).expect_err("through LET too");
}

#[test]
fn what_is_kept_apart_or_leads_one_way_is_no_back_and_forth() {
    let pairs: [Pair; 8] = [
        [
            ("edge: current_qos > 200ms", ""),
            ("cloud: current_qos < 45ms", ""),
        ],
        [
            ("edge: predicted_qos > kpi_max", ""),
            ("cloud: predicted_qos < kpi_max / 2", ""),
        ],
        [
            ("edge: current_qos > 100ms", "cloud"),
            ("cloud: current_qos < 50ms", "edge"),
        ],
        // The same way, or to the same place.
        [
            ("edge: current_qos > 100ms", "cloud"),
            ("edge: current_qos > 50ms", "third"),
        ],
        [
            ("current_qos > 100ms", "cloud"),
            ("predicted_qos > 50ms", "cloud"),
        ],
        [
            ("edge: current_qos > 100ms", "cloud"),
            ("third: current_qos < 150ms", "edge"),
        ],
        // To the best site whenever it is slow: the margin keeps these apart.
        [
            ("edge: current_qos > 100ms", ""),
            ("cloud: current_qos > 80ms", ""),
        ],
        // Not decided from the text.
        [
            ("edge: current_qos > 100ms", ""),
            ("cloud: free_cpu(\"edge\") > 1", ""),
        ],
    ];
    for pair in pairs {
        both(pair).unwrap_or_else(|error| panic!("{pair:?}: {error}"));
    }
}

#[test]
fn size_and_nesting_are_bounded() {
    let refused = |text: String| drop(Policy::parse(&text).expect_err("too much"));
    let act = "THEN Nothing_to_do";
    refused(" ".repeat((64 << 10) + 1));
    refused(format!("IF {}{}", "(".repeat(60_000), act));
    refused(format!(
        "IF {} successful_call {act}",
        "NOT ".repeat(10_000)
    ));
    refused(format!("IF 1 {} > 1 {act}", "+ 1".repeat(10_000)));
    refused(format!("IF 1 > 1 {act}\n").repeat(65));
    refused(format!(
        "IF 1 > 1 {act} {}",
        format!("ELSEIF 1 > 1 {act} ").repeat(64)
    ));
    refused(format!("IF {}1 > 1 {act}", "qos_at(".repeat(5_000)));
    refused("LET a = 1 ".to_owned() + &"LET b = a + a ".repeat(2));
    refused(format!(
        "{}IF 1 > 1 {act}",
        (0..65)
            .map(|i| format!("LET a{i} = 1\n"))
            .collect::<String>()
    ));
}

/// A policy of LETs, each made of the one before, and of branches whose condition is the last.
fn of_lets(first: &str, next: impl Fn(&str) -> String, n: u32, branches: usize) -> String {
    let mut text = format!("LET a0 = {first}\n");
    for i in 1..n {
        text += &format!("LET a{i} = {}\n", next(&format!("a{}", i - 1)));
    }
    let last = format!("a{}", n - 1);
    let last = if first.contains('>') {
        last
    } else {
        format!("{last} > 1s")
    };
    let go = "THEN Call(NearbyOneActuator : migrate_service)";
    let branches = vec![format!("IF {last} {go}\n"); branches];
    text + &branches.join("ELSE")
}

/// Whatever a text says, it is parsed, or refused, and evaluated in a time that is bounded.
#[test]
fn what_lets_stand_for_is_bounded() {
    let twice = |with: &'static str| move |a: &str| format!("{a} {with} {a}");
    let refused = |text: String, line: u32, column: u32| {
        let error = Policy::parse(&text).expect_err("too much");
        assert_eq!((error.line, error.column), (line, column), "{error}");
        assert!(error.message.contains("512 operators"), "{error}");
    };
    let slow = "current_qos > 1s";
    refused(of_lets("1s", twice("+"), 64, 1), 8, 10);
    refused(of_lets("current_qos", twice("+"), 64, 1), 8, 10);
    refused(
        of_lets("current_qos", |a| format!("{a} / 2 + 2 * {a}"), 64, 1),
        7,
        23,
    );
    refused(of_lets(slow, twice("AND"), 64, 1), 8, 10);
    refused(of_lets(slow, twice("OR"), 64, 1), 8, 10);
    refused(of_lets(slow, |a| format!("NOT NOT NOT {a}"), 64, 1), 17, 23);
    refused(of_lets(slow, str::to_owned, 64, 1), 32, 11);
    refused(of_lets(slow, twice("OR"), 5, 64), 12, 8);
    // As much as is allowed.
    let allowed = [
        (of_lets("current_qos", twice("+"), 6, 1), Some(0)),
        (of_lets(slow, twice("AND"), 6, 2), None),
        (of_lets(slow, twice("OR"), 6, 2), None),
        (of_lets(slow, |a| format!("NOT {a}"), 19, 2), None),
    ];
    for (text, expected) in allowed {
        let policy = Policy::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(branch(&policy, 0, &facts()), Ok(expected));
    }
}

/// Scraps of the language in any order, which gets further into the parser than noise.
fn scraps() -> impl Strategy<Value = String> {
    let words = LISTING_4
        .split_inclusive(char::is_whitespace)
        .chain(STANDARD.split_inclusive(char::is_whitespace))
        .chain([
            "LET a = ",
            "a ",
            "NOT ",
            "( ",
            ") ",
            "+ ",
            "* 2 ",
            "qos_at(",
            "200 ",
            "\"",
            "MARGIN 5% ",
        ]);
    let words: Vec<&str> = words.collect();
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![scraps(), any::<String>(), "[ -~\n]{0,200}"]) {
        if let Ok(policy) = Policy::parse(&text) {
            for rule in 0..policy.items.len() {
                drop(branch(&policy, rule, &facts()));
            }
        }
    }

    #[test]
    fn a_changed_policy_never_panics(cut in 0_usize..700, len in 0_usize..20, put in ".{0,5}") {
        let mut text: Vec<char> = LISTING_4.chars().collect();
        let from = cut.min(text.len());
        let to = (from + len).min(text.len());
        text.splice(from..to, put.chars());
        drop(Policy::parse(&text.into_iter().collect::<String>()));
    }
}
