//! What the judge lets pass, and what it must not: a lost object, a stale read, an altered byte.

use super::*;

/// One after the other, each with whoever asked gone if there is no answer.
fn in_turn(calls: &[(Ask, Option<Answer>)]) -> Vec<Call> {
    let calls = calls.iter().zip((0..).step_by(10));
    let calls = calls.map(|((ask, answer), from)| Call {
        ask: ask.clone(),
        era: 0,
        from,
        to: from + 5,
        answer: answer.clone(),
    });
    calls.collect()
}

fn seal(key: Key, version: Version, is_durable: bool) -> (Ask, Option<Answer>) {
    let when = When::Always;
    let ask = Ask::Seal {
        key,
        version,
        is_durable,
        when,
    };
    (ask, Some(Answer::Done))
}

fn read(key: Key, answer: Answer) -> (Ask, Option<Answer>) {
    (Ask::Read(key), Some(answer))
}

fn found(key: Key, version: Version) -> (Ask, Option<Answer>) {
    read(key, Answer::Found(version))
}

/// The node ends once, before the call with this number.
fn with_end(calls: &[(Ask, Option<Answer>)], at: usize) -> (Vec<Call>, [End; 1]) {
    let mut calls = in_turn(calls);
    for call in &mut calls[at..] {
        call.era = 1;
    }
    let at = 10 * at as u64;
    let end = End {
        at: at - 3,
        next: at - 1,
    };
    (calls, [end])
}

fn is_right(calls: &[(Ask, Option<Answer>)]) -> bool {
    check(&in_turn(calls), &[], Rule::Promised).is_ok()
}

fn is_right_with_end(calls: &[(Ask, Option<Answer>)], at: usize) -> bool {
    let (calls, ends) = with_end(calls, at);
    check(&calls, &ends, Rule::Promised).is_ok()
}

#[test]
fn what_was_written_last_is_read() {
    assert!(is_right(&[
        seal(0, 1, true),
        found(0, 1),
        seal(0, 2, false),
        found(0, 2)
    ]));
    assert!(
        !is_right(&[seal(0, 1, true), seal(0, 2, true), found(0, 1)]),
        "a stale read"
    );
    assert!(
        !is_right(&[seal(0, 1, true), read(0, Answer::Nothing)]),
        "a lost name"
    );
    assert!(
        !is_right(&[seal(0, 1, true), read(0, Answer::Lost)]),
        "a lost object"
    );
    assert!(!is_right(&[seal(0, 1, true), found(1, 1)]), "another name");
    let wrong = Answer::Wrong("byte 3 is another one".to_owned());
    assert!(
        !is_right(&[seal(0, 1, true), read(0, wrong)]),
        "an altered byte"
    );
}

#[test]
fn whoever_was_not_answered_was_heard_or_not_but_once() {
    let (ask, _) = seal(0, 2, true);
    let calls = |tail: &[(Ask, Option<Answer>)]| {
        let head = [seal(0, 1, true), (ask.clone(), None)];
        [&head, tail].concat()
    };
    assert!(is_right(&calls(&[found(0, 1), found(0, 1)])));
    assert!(
        is_right(&calls(&[found(0, 1), found(0, 2)])),
        "it was heard late"
    );
    assert!(
        !is_right(&calls(&[found(0, 2), found(0, 1)])),
        "it goes back"
    );
    assert!(
        !is_right(&calls(&[found(0, 2), seal(0, 3, true), found(0, 2)])),
        "it comes back"
    );
    assert!(is_right_with_end(&calls(&[found(0, 2)]), 2));
    assert!(is_right_with_end(&calls(&[found(0, 1)]), 2));
    let late = calls(&[found(0, 1), found(0, 2)]);
    assert!(
        !is_right_with_end(&late, 2),
        "the end of the node has come in between"
    );
}

#[test]
fn the_end_of_a_node_takes_what_was_ephemeral_and_nothing_else() {
    let kept = [seal(0, 1, true)];
    assert!(is_right_with_end(&[&kept[..], &[found(0, 1)]].concat(), 1));
    for gone in [Answer::Lost, Answer::Nothing] {
        assert!(!is_right_with_end(
            &[&kept[..], &[read(0, gone)]].concat(),
            1
        ));
    }
    let brief = [
        seal(0, 1, true),
        seal(0, 2, false),
        (Ask::List, Some(Answer::Names(vec![0]))),
    ];
    let after = |tail: &[(Ask, Option<Answer>)]| is_right_with_end(&[&brief[..], tail].concat(), 3);
    assert!(after(&[read(0, Answer::Lost), read(0, Answer::Lost)]));
    assert!(
        after(&[found(0, 2), found(0, 2)]),
        "it had come to the disk"
    );
    assert!(
        !after(&[found(0, 2), read(0, Answer::Lost)]),
        "once whole, always whole"
    );
    assert!(
        !after(&[read(0, Answer::Lost), found(0, 2)]),
        "once lost, always lost"
    );
    assert!(!after(&[read(0, Answer::Nothing)]), "the name stays");
    let kept = [&brief[..], &[(Ask::Keep(0), Some(Answer::Done))]].concat();
    assert!(is_right_with_end(&[&kept[..], &[found(0, 2)]].concat(), 4));
    assert!(!is_right_with_end(
        &[&kept[..], &[read(0, Answer::Lost)]].concat(),
        4
    ));
}

#[test]
fn what_was_seen_and_not_durable_goes_only_with_all_that_came_after_it() {
    let calls = [seal(0, 1, true), seal(0, 2, false), seal(1, 3, false)];
    let gone = [&calls[..], &[found(0, 1), read(1, Answer::Nothing)]].concat();
    assert!(is_right_with_end(&gone, 3));
    let (calls_of_gone, ends) = with_end(&gone, 3);
    assert!(check(&calls_of_gone, &ends, Rule::Strict).is_err());
    let out_of_order = [&calls[..], &[found(0, 1), read(1, Answer::Lost)]].concat();
    assert!(!is_right_with_end(&out_of_order, 3));
    let durable = [&calls[..], &[seal(1, 4, true), found(0, 1)]].concat();
    assert!(
        !is_right_with_end(&durable, 4),
        "something later is durable"
    );
}

#[test]
fn calls_at_once_are_done_in_any_order_and_others_are_not() {
    let [first, second] = [seal(0, 1, true), seal(0, 2, true)].map(|(ask, answer)| Call {
        ask,
        era: 0,
        from: 0,
        to: 100,
        answer,
    });
    for reads in [[1, 2], [2, 1], [1, 1]] {
        let mut calls = vec![first.clone(), second.clone()];
        for (version, from) in reads.into_iter().zip([10, 30]) {
            let (ask, answer) = found(0, version);
            calls.push(Call {
                ask,
                era: 0,
                from,
                to: from + 5,
                answer,
            });
        }
        check(&calls, &[], Rule::Promised).expect("there is an order");
        let (ask, answer) = found(0, 1);
        calls.push(Call {
            ask,
            era: 0,
            from: 110,
            to: 120,
            answer,
        });
        let is_right = check(&calls, &[], Rule::Promised).is_ok();
        assert_eq!(is_right, reads[1] == 1, "{reads:?}, and then the first");
    }
}

#[test]
fn conditions_renaming_and_lists_are_about_what_is_then() {
    let absent = |key, answer| {
        let (version, is_durable, when) = (9, true, When::Absent);
        let ask = Ask::Seal {
            key,
            version,
            is_durable,
            when,
        };
        (ask, Some(answer))
    };
    assert!(!is_right(&[seal(0, 1, true), absent(0, Answer::Done)]));
    assert!(is_right(&[
        seal(0, 1, true),
        absent(0, Answer::Conflict),
        found(0, 1)
    ]));
    assert!(!is_right(&[absent(0, Answer::Conflict)]));
    let rename = |when, answer| {
        (
            Ask::RenameFolder {
                from: 0,
                to: 1,
                when,
            },
            Some(answer),
        )
    };
    let both = [seal(0, 1, true), seal(1, 2, true), seal(5, 3, true)];
    let then = |tail: &[(Ask, Option<Answer>)]| is_right(&[&both[..], tail].concat());
    let names = |names: &[Key]| (Ask::List, Some(Answer::Names(names.to_vec())));
    assert!(then(&[
        rename(When::Always, Answer::Done),
        names(&[4, 5]),
        found(5, 2)
    ]));
    assert!(then(&[
        rename(When::Absent, Answer::Conflict),
        names(&[0, 1, 5])
    ]));
    assert!(!then(&[rename(When::Absent, Answer::Done)]));
    assert!(
        !then(&[names(&[0, 1])]),
        "a list without a name that is there"
    );
    let copy = (
        Ask::Copy {
            from: 0,
            to: 6,
            when: When::Is(3),
        },
        Some(Answer::Conflict),
    );
    assert!(then(&[copy, names(&[0, 1, 5])]));
    assert!(then(&[
        (Ask::DeleteFolder(0), Some(Answer::Done)),
        names(&[5])
    ]));
    assert!(then(&[
        (Ask::Delete(2), Some(Answer::Nothing)),
        (Ask::Delete(0), Some(Answer::Done)),
        names(&[1, 5])
    ]));
}
