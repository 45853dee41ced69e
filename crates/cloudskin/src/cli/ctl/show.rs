//! Resources as text, for people.

use nbi::{Decision, Explanation, Migration, Operation, Service, Site, UnitStatus, WatchEvent};

/// Rows below a heading, in columns as wide as their widest cell.
fn table<const N: usize>(heading: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(heading.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

pub(super) fn sites(sites: &[Site]) -> String {
    table(
        [
            "SITE",
            "PHASE",
            "CPUS",
            "BY",
            "UNITS",
            "GENERATION",
            "LABELS",
            "CONDITIONS",
        ],
        sites.iter().map(|site| {
            let labels = site.metadata.labels.iter();
            let labels: Vec<_> = labels
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let conditions = site.status.conditions.iter();
            let conditions: Vec<_> = conditions
                .map(|condition| condition.kind.as_str())
                .collect();
            [
                site.metadata.name.to_string(),
                site.status.phase.clone(),
                site.spec.cpu_share.to_string(),
                site.spec.cpu_share_by.clone(),
                site.status.units.to_string(),
                site.status.generation.to_string(),
                labels.join(","),
                conditions.join(","),
            ]
        }),
    )
}

pub(super) fn services(services: &[Service]) -> String {
    table(
        ["SERVICE", "PHASE", "UNITS", "SITES", "WHY"],
        services.iter().map(|service| {
            let status = service.status.as_ref();
            let units = status.map_or(&[][..], |status| &status.units);
            let mut sites: Vec<_> = units.iter().map(|unit| unit.site.as_str()).collect();
            sites.sort_unstable();
            sites.dedup();
            let why = status.and_then(|status| {
                let mut messages = status.conditions.iter().map(|condition| &condition.message);
                messages.find(|message| !message.is_empty())
            });
            [
                service.metadata.name.to_string(),
                status.map_or("Pending".into(), |status| status.phase.clone()),
                units.len().to_string(),
                sites.join(","),
                why.cloned().unwrap_or_default(),
            ]
        }),
    )
}

pub(super) fn units(units: &[UnitStatus]) -> String {
    table(
        [
            "UNIT", "PHASE", "HOME", "RANKS", "MOVES", "RESTARTS", "CODE", "WHY",
        ],
        units.iter().map(|unit| {
            let ranks = unit.ranks.iter();
            let ranks: Vec<_> = ranks
                .map(|rank| format!("{}@{}", rank.rank, rank.site))
                .collect();
            [
                unit.id.clone(),
                unit.phase.clone(),
                unit.home.to_string(),
                ranks.join(" "),
                unit.moves.to_string(),
                unit.restarts.to_string(),
                unit.exit_code
                    .map_or(String::new(), |code| code.to_string()),
                unit.reason.clone(),
            ]
        }),
    )
}

pub(super) fn migrations(migrations: &[Migration]) -> String {
    table(
        [
            "MIGRATION",
            "SERVICE",
            "TO",
            "PHASE",
            "RANKS",
            "PAUSE MS",
            "REASON",
        ],
        migrations.iter().map(|migration| {
            [
                migration.metadata.name.to_string(),
                migration.spec.service.to_string(),
                migration.status.to.to_string(),
                migration.status.phase.clone(),
                format!("{}/{}", migration.status.moved, migration.status.ranks),
                format!("{:.1}", migration.status.pause_ms_max),
                migration.spec.reason.clone().unwrap_or_default(),
            ]
        }),
    )
}

pub(super) fn operations(operations: &[Operation]) -> String {
    table(
        ["OPERATION", "KIND", "TARGET", "PHASE", "PROGRESS", "ERROR"],
        operations.iter().map(|operation| {
            [
                operation.id.clone(),
                operation.kind.clone(),
                operation.target.clone(),
                operation.phase.clone(),
                format!("{}/{}", operation.progress.step, operation.progress.goal),
                operation.error.clone().unwrap_or_default(),
            ]
        }),
    )
}

pub(super) fn explanation(explanation: &Explanation) -> String {
    let mut text = String::new();
    for block in &explanation.blocks {
        text += &format!("{}/{}\n", explanation.service, block.block);
        for reason in &block.placement {
            text += &format!("  placed: {reason}\n");
        }
        if block.decisions.is_empty() {
            text += "  the Learning Plane has decided nothing about it\n";
        }
        text += &decisions(&block.decisions);
    }
    text
}

pub(super) fn decisions(decisions: &[Decision]) -> String {
    decisions.iter().map(decision).collect()
}

fn decision(decision: &Decision) -> String {
    let mut text = format!(
        "  decision {} at {} ms ({:?}): {}: {}\n",
        decision.id, decision.at_ms, decision.mode, decision.action, decision.outcome,
    );
    if decision.times > 1 {
        text += &format!("    decided   {} times in a row\n", decision.times);
    }
    if let Some(at_ms) = decision.violated_at_ms {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let later = at_ms.saturating_sub(decision.at_ms) as f64 / 1e3;
        text += &format!("    violated  at {at_ms} ms, {later:.1} s after the decision\n");
    }
    text += &format!("    because   {}\n", decision.branch);
    for (name, value) in &decision.inputs {
        text += &format!("    input     {name} = {value}\n");
    }
    if let Some(forecast) = &decision.forecast {
        let quantiles = forecast.quantiles.iter();
        let quantiles: Vec<_> = quantiles
            .map(|(quantile, seconds)| format!("{quantile}: {:.1} ms", seconds * 1e3))
            .collect();
        let ahead = forecast.target_ms.saturating_sub(forecast.as_of_ms);
        text += &format!(
            "    forecast  {} for {ahead} ms ahead: {}\n",
            forecast.model,
            quantiles.join(", ")
        );
    }
    for alternative in &decision.alternatives {
        let predicted = alternative.predicted.map_or("unknown".into(), |seconds| {
            format!("{:.1} ms", seconds * 1e3)
        });
        text += &format!(
            "    site      {}: {predicted}: {}\n",
            alternative.site, alternative.why
        );
    }
    text
}

pub(super) fn event(event: &WatchEvent) -> String {
    let phase = event.object.as_ref().and_then(|object| {
        let phase = object
            .pointer("/status/phase")
            .or_else(|| object.get("phase"));
        phase.and_then(serde_json::Value::as_str).map(str::to_owned)
    });
    let phase = match &event.object {
        None => "gone".to_owned(),
        Some(_) => phase.unwrap_or_default(),
    };
    format!(
        "{}\t{}\t{}\t{phase}",
        event.revision, event.kind, event.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_says_how_often_it_was_made_and_what_came_true() {
        let decision = |times: u32, violated_at_ms: Option<u64>| {
            let decision = serde_json::json!({
                "id": "decision-1", "atMs": 1_000, "mode": "shadow", "inputs": {}, "branch": "line 1: IF x",
                "action": "migrate_service to cloud", "alternatives": [], "outcome": "shadow", "times": times,
                "violatedAtMs": violated_at_ms,
            });
            decisions(&[serde_json::from_value(decision).expect("a decision")])
        };
        let head = "  decision decision-1 at 1000 ms (Shadow): migrate_service to cloud: shadow\n";
        let because = "    because   line 1: IF x\n";
        assert_eq!(decision(1, None), format!("{head}{because}"));
        let told = "    decided   7 times in a row\n    violated  at 13400 ms, 12.4 s after the decision\n";
        assert_eq!(decision(7, Some(13_400)), format!("{head}{told}{because}"));
    }
}
