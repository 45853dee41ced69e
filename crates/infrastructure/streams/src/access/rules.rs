//! What a user may do, as upstream's `AccessControlEntry.java` and `AclAuthorizerImpl.java` understand it.

use crate::controller::Permission;

/// What all resources, and so all patterns, begin with.
const DOMAIN: &str = "prn::";

/// Rules, of which the first that is about a resource decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// `*` stands for any characters; all others stand for themselves, also those that mean something in upstream's regular expressions.
    pattern: String,
    permission: Option<Permission>,
}

impl Rules {
    /// `PATTERN,PERMISSION;PATTERN,PERMISSION;…`. What upstream passes over in silence is refused.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let rules = text.split(';').map(str::trim);
        let rules = rules.filter(|rule| !rule.is_empty()).map(Rule::parse);
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    pub(super) fn permission(&self, resource: &str) -> Option<Permission> {
        let mut rules = self.0.iter();
        let rule = rules.find(|rule| matches(&rule.pattern, resource))?;
        rule.permission
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (pattern, permission) = text
            .split_once(',')
            .ok_or("a rule is RESOURCE,READ or RESOURCE,READ_UPDATE")?;
        let pattern = pattern.trim();
        if !pattern.starts_with(DOMAIN) {
            return Err("a resource begins with prn::");
        }
        let permission = match permission.trim() {
            "NONE" => None,
            "READ" => Some(Permission::Read),
            "READ_UPDATE" => Some(Permission::ReadUpdate),
            _ => return Err("a permission is READ or READ_UPDATE, or NONE"),
        };
        Ok(Self {
            pattern: pattern.to_owned(),
            permission,
        })
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // Where a part is found first, there is most left for those behind it.
    for part in parts {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = "prn::/scope:lab";
    const VIDEO: &str = "prn::/scope:lab/stream:video";

    #[test]
    fn the_first_rule_about_a_resource_decides() {
        let check = |rules, resource, permission| {
            let parsed = Rules::parse(rules).expect(rules);
            assert_eq!(
                parsed.permission(resource),
                permission,
                "{rules} of {resource}"
            );
        };
        let (read, update) = (Some(Permission::Read), Some(Permission::ReadUpdate));
        check("", "prn::/", None);
        check("prn::*,READ_UPDATE", "prn::/", update);
        check("prn::*,READ_UPDATE;", VIDEO, update);
        check("prn::/,READ", LAB, None);
        check("prn::/scope:lab,READ_UPDATE", VIDEO, None);
        check("prn::/scope:lab/*,READ", VIDEO, read);
        check("prn::/scope:lab/*,READ", LAB, None);
        check(
            "prn::/scope:lab/*,READ",
            "prn::/scope:laboratory/stream:a",
            None,
        );
        check("prn::/scope:lab/stream:video,READ_UPDATE", VIDEO, update);
        check(
            "prn::/scope:lab/stream:vide,READ_UPDATE; prn::*,READ",
            VIDEO,
            read,
        );
        check(
            "prn::/scope:lab/stream:video,NONE;prn::*,READ_UPDATE",
            VIDEO,
            None,
        );
        check("prn::/scope:*/stream:v*o,READ", VIDEO, read);
        check("prn::/scope:*/stream:v*deo*o,READ", VIDEO, None);
        check("prn::/scope:l.b/stream:video,READ", VIDEO, None);
        check("prn::/scope:lab/stream:*video,READ", VIDEO, read);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for rules in [
            "prn::/scope:lab",
            "*,READ_UPDATE",
            "/scope:lab,READ",
            "prn::*,WRITE",
            "prn::*,READ,READ",
        ] {
            Rules::parse(rules).expect_err(rules);
        }
    }
}
