//! Reader groups, each with a stream of its own.

use crate::error::Refusal;
use crate::groups::Group;
use crate::names::StreamName;
use crate::rows::{Key, Row};
use crate::state::Control;
use crate::step::Response;

use super::Next;
use super::create::config_of_one;

impl Control {
    /// One that is there stays as it is: its creator is told how that is.
    pub(super) fn create_group(
        &self,
        name: &StreamName,
        group: &Group,
        step: u32,
    ) -> Result<Next, Refusal> {
        let config = config_of_one(group.rollover_size_bytes);
        match (step, self.visible(name)) {
            (0, Ok(stream)) if stream.group.is_some() => self.told_of_group(name),
            // Older clients make the stream themselves.
            (0, Ok(_)) => Ok(Next::Write(vec![group_row(name, group.clone())])),
            (0, Err(_)) => {
                let mut rows = self.new_streams(name, &config)?;
                rows.push(group_row(name, group.clone()));
                Ok(Next::Write(rows))
            }
            (1 | 2, _) => self.create(name, &config, step),
            _ => self.told_of_group(name),
        }
    }

    pub(super) fn update_group(
        &self,
        name: &StreamName,
        group: &Group,
        step: u32,
    ) -> Result<Next, Refusal> {
        if step > 0 {
            return self.told_of_group(name);
        }
        let before = self.group(name)?;
        if (before.id, before.generation) != (group.id, group.generation) {
            return Err(Refusal::Precondition(
                "the group has another configuration meanwhile",
            ));
        }
        let generation = before.generation.saturating_add(1);
        let group = Group {
            generation,
            ..group.clone()
        };
        Ok(Next::Write(vec![group_row(name, group)]))
    }

    /// Its stream goes, sealed or not, and takes it along.
    pub(super) fn delete_group(
        &self,
        name: &StreamName,
        id: u128,
        step: u32,
    ) -> Result<Next, Refusal> {
        if step > 0 {
            return self.delete(name, step);
        }
        if self.group(name)?.id != id {
            return Err(Refusal::NoStream);
        }
        Ok(self.begin_deletion(&self.both(name)))
    }

    fn told_of_group(&self, name: &StreamName) -> Result<Next, Refusal> {
        let group = self.group(name)?.clone();
        Ok(Next::Done(Response::Group(Box::new(group))))
    }
}

fn group_row(name: &StreamName, group: Group) -> (Key, Option<Row>) {
    (Key::Group(name.clone()), Some(Row::Group(Box::new(group))))
}
