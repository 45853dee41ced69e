//! Scopes.

use crate::error::Refusal;
use crate::lanes::LaneKey;
use crate::names::{Name, StreamName};
use crate::rows::{Key, Row, ScopeRow};
use crate::step::Response;

use super::{Control, Next, Work};

impl Control {
    pub(super) fn create_scope(&self, scope: &Name, step: u32) -> Result<Next, Refusal> {
        if step > 0 {
            return Ok(Next::Done(Response::Done));
        }
        if self.scopes.contains_key(scope) {
            return Err(Refusal::ScopeExists);
        }
        let max = self.limits.scopes_max;
        self.limits.check("scopes", self.scopes.len() + 1, max)?;
        let row = Row::Scope(ScopeRow { is_deleted: false });
        Ok(Next::Write(vec![(Key::Scope(scope.clone()), Some(row))]))
    }

    pub(super) fn delete_scope(&self, scope: &Name, step: u32) -> Result<Next, Refusal> {
        if step > 0 {
            return Ok(Next::Done(Response::Done));
        }
        self.check_deletable(scope)?;
        let found = self.scopes.get(scope).ok_or(Refusal::NoScope)?;
        if !found.streams.is_empty() || self.is_busy(scope) {
            return Err(Refusal::ScopeNotEmpty);
        }
        Ok(Next::Write(vec![(Key::Scope(scope.clone()), None)]))
    }

    /// Its streams are destroyed in their own lanes, and then it goes.
    pub(super) fn delete_scope_recursive(&self, scope: &Name, step: u32) -> Result<Next, Refusal> {
        self.check_deletable(scope)?;
        let Some(found) = self.scopes.get(scope) else {
            return if step > 0 {
                Ok(Next::Done(Response::Done))
            } else {
                Err(Refusal::NoScope)
            };
        };
        let row = |row| (Key::Scope(scope.clone()), row);
        Ok(match step {
            0 => {
                let is_deleted = Row::Scope(ScopeRow { is_deleted: true });
                Next::Write(vec![row(Some(is_deleted))])
            }
            _ if !found.streams.is_empty() => {
                // Not all at once: each that is gone makes room for another.
                let streams = found.streams.keys().take(self.limits.plan_max.max(1));
                let streams = streams.map(|stream| StreamName {
                    scope: scope.clone(),
                    stream: stream.clone(),
                });
                // One that was being created, or where something failed, is not destroyed yet.
                let works = streams.map(Work::Destroy).filter(|work| {
                    let lane = self.lanes.get(&work.lane());
                    !lane.is_some_and(|lane| lane.is_doing(|other| other == work))
                });
                let works: Vec<_> = works.collect();
                if works.is_empty() {
                    Next::Park
                } else {
                    Next::Enqueue(works)
                }
            }
            _ if self.is_busy(scope) => Next::Park,
            _ => Next::Write(vec![row(None)]),
        })
    }

    /// What is begun there may be a new stream.
    fn is_busy(&self, scope: &Name) -> bool {
        let mut lanes = self.lanes.keys();
        lanes.any(|lane| matches!(lane, LaneKey::Stream(it) if it.scope == *scope))
    }

    fn check_deletable(&self, scope: &Name) -> Result<(), Refusal> {
        if scope.as_str() == crate::names::SYSTEM_SCOPE {
            return Err(Refusal::Invalid("the scope of the system stays"));
        }
        Ok(())
    }
}
