//! Hosts that others start.

use super::{Coordinator, Recovering};
use crate::wire::messages::HostId;
use crate::world::admin::{Admission, Answer};
use crate::world::hosts::{Host, Origin};

const ADMITTED_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 63;

impl Coordinator<'_> {
    pub(super) fn admit(&mut self, label: &str, public_key: Vec<u8>) -> Result<Admission, String> {
        if !self.is_running {
            return Err("the world is starting: try again".into());
        }
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || label == self.setting.label {
            return Err(format!("`{label}` cannot be the label of another site"));
        }
        if let Some(host) = self.admitted(label) {
            return match &host.origin {
                Origin::Admitted {
                    public_key: known,
                    admission,
                } if *known == public_key => Ok(admission.clone()),
                _ => Err(format!(
                    "host {} of {label} is not known to be dead: say that first",
                    host.id
                )),
            };
        }
        let n_admitted = self.hosts.values().filter(|host| host.is_admitted());
        if n_admitted.count() >= ADMITTED_MAX {
            return Err(format!(
                "a world has at most {ADMITTED_MAX} hosts of other sites"
            ));
        }
        let host = self
            .starter
            .admit(self.id, label, public_key, self.world.interpret)
            .map_err(|error| error.to_string())?;
        let Origin::Admitted { admission, .. } = &host.origin else {
            unreachable!("it was admitted");
        };
        let admission = admission.clone();
        if self.recovering == Some(Recovering::Label(label.to_owned())) {
            self.recovering = Some(Recovering::Host(host.id));
        }
        self.hosts.insert(host.id, host);
        Ok(admission)
    }

    fn admitted(&self, label: &str) -> Option<&Host> {
        self.hosts
            .values()
            .find(|host| host.is_admitted() && host.label == label)
    }

    pub(super) fn label_of(&self, host: HostId) -> &str {
        self.hosts.get(&host).map_or("", |host| &host.label)
    }

    /// Where a host is, or the one that takes its place.
    pub(super) fn site_of(&self, host: HostId) -> &str {
        match &self.recovering {
            Some(Recovering::Label(label)) if !self.hosts.contains_key(&host) => label,
            Some(Recovering::Host(next)) if !self.hosts.contains_key(&host) => self.label_of(*next),
            _ => self.label_of(host),
        }
    }

    pub(super) fn declare_dead(&mut self, label: &str) -> Answer {
        let Some(host) = self.admitted(label) else {
            return Answer::Done(format!("no host of {label} takes part"));
        };
        let id = host.id;
        match self.host_died(id, "its site says so") {
            Ok(()) => Answer::Done(format!("host {id} is dead")),
            Err(error) => {
                let reason = error.to_string();
                self.verdict = Some(Err(error));
                Answer::Failed(reason)
            }
        }
    }

    pub(super) fn release(&mut self, label: &str) -> Answer {
        let Some(host) = self.admitted(label) else {
            return Answer::Done(format!("no host of {label} takes part"));
        };
        let id = host.id;
        let has_rank = self.ranks.iter().any(|rank| rank.host == id);
        let moving = self.moving.as_ref();
        // Its journal decides about a move of the host before it.
        let has_to_decide = self.recovering.as_ref().is_some_and(|who| match who {
            Recovering::Host(host) => *host == id,
            Recovering::Label(of) => of == label,
        });
        let moves = moving.is_some_and(|moving| moving.from == id || moving.to == id);
        if has_rank || moves || has_to_decide {
            return Answer::Failed(format!("a rank depends on host {id}"));
        }
        self.hosts.remove(&id);
        Answer::Done(format!("host {id} is released"))
    }
}
