//! What is refused for good.
//!
//! | what is refused | what becomes of it |
//! |---|---|
//! | what nobody was promised yet | the request is refused |
//! | create: the segments | they are deleted, their rows go, the request is refused |
//! | update: the policy | the configuration stays; some segments may report by the new one until the next |
//! | scale: the successors | they are deleted, `Active` again, the request is refused |
//! | a new transaction: its parts | it is aborted, the request is refused |
//! | commit: a merge | the epochs are repeated, and it is merged into new segments |
//! | all else, which was promised | the lane tries again, ever more rarely |

use crate::error::Refusal;
use crate::names::{StreamName, TxnId};
use crate::rows::{Commit, Key, Row, State, StreamRow};
use crate::state::{Control, Stream};
use crate::step::Call;

use super::{Job, Next, Work, stream_row};

impl Control {
    /// What a job becomes if its plan was refused. `None`: it stays as it is.
    pub(crate) fn instead(&self, job: &Job, why: &str) -> Option<Next> {
        let refused = || Next::Refuse(Refusal::Refused(why.to_owned()));
        let undo = |name: &StreamName| Next::Become(Work::Undo(name.clone(), why.to_owned()));
        let has_next_epoch = |stream: &Stream| {
            let next = stream.row.active.next();
            stream.epochs.get(next).is_some()
        };
        Some(match &job.work {
            Work::Retain(_) => refused(),
            _ if job.is_undecided() && job.waiting.is_some() => refused(),
            Work::Create(name, _) | Work::CreateGroup(name, _) | Work::Update(name, _)
                if job.step == 1 =>
            {
                undo(name)
            }
            Work::Scale(name, ..) if !self.stream(name).is_some_and(has_next_epoch) => undo(name),
            Work::CreateTxn(name, _, unique) if job.step == 1 => {
                let epoch = self.stream(name)?.active().reference;
                let txn = TxnId::new(epoch, *unique);
                Next::Abandon(
                    Refusal::Refused(why.to_owned()),
                    Work::AbortTxn(name.clone(), txn),
                )
            }
            Work::Commit(name) if job.step == 1 => {
                let commit = self.stream(name)?.row.commit.as_ref()?;
                if commit.is_rolling {
                    return None;
                }
                Next::Become(Work::Roll(name.clone()))
            }
            _ => return None,
        })
    }

    pub(super) fn undo(&self, name: &StreamName, why: &str, step: u32) -> Result<Next, Refusal> {
        let refused = || Err(Refusal::Refused(why.to_owned()));
        let creating = self.creating(name);
        if !creating.is_empty() {
            let segments = |(name, stream): &(StreamName, &Stream)| {
                let ids = stream.active().ids();
                ids.map(|id| name.segment(id)).collect::<Vec<_>>()
            };
            let rows = |(name, stream): &(StreamName, &Stream)| {
                let epoch = Key::Epoch(name.clone(), stream.row.active);
                let group = stream.group.is_some().then(|| Key::Group(name.clone()));
                let parts = [epoch].into_iter().chain(group);
                parts
                    .chain([Key::Stream(name.clone())])
                    .map(|key| (key, None))
            };
            return Ok(match step {
                0 => Next::Call(
                    creating
                        .iter()
                        .flat_map(segments)
                        .map(Call::Delete)
                        .collect(),
                ),
                _ => Next::Write(creating.iter().flat_map(rows).collect()),
            });
        }
        let Some(stream) = self.stream(name) else {
            return refused();
        };
        let active = || Next::Write(vec![stream_row(name, stream.in_state(State::Active))]);
        Ok(match (&stream.row.state, step) {
            (State::Scaling(replacement), 0) => {
                let created = replacement.created.iter();
                let created = created.map(|it| Call::Delete(name.segment(it.id)));
                Next::Call(created.collect())
            }
            (State::Updating(_) | State::Scaling(_), _) => active(),
            _ => return refused(),
        })
    }

    /// Parts that were merged are not there any more, and so they are not merged again.
    pub(super) fn roll(&self, name: &StreamName, step: u32) -> Result<Next, Refusal> {
        let stream = self.stream(name).ok_or(Refusal::NoStream)?;
        let commit = stream.row.commit.as_ref();
        Ok(match (step, commit) {
            (0, Some(commit)) => {
                let row = StreamRow {
                    commit: Some(Commit {
                        is_rolling: true,
                        ..commit.clone()
                    }),
                    ..stream.row.clone()
                };
                Next::Write(vec![(
                    Key::Stream(name.clone()),
                    Some(Row::Stream(Box::new(row))),
                )])
            }
            _ => Next::Become(Work::Commit(name.clone())),
        })
    }
}
