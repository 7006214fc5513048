//! What was measured, as a table or as JSON.

use crate::workloads::{Measured, Unit, WORKLOADS, Workload};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything measured on one file system.
pub(crate) struct Column {
    pub(crate) name: String,
    rows: BTreeMap<&'static str, Row>,
}

/// One workload's rounds.
#[derive(Default)]
struct Row {
    rates: Vec<f64>,
    micros: Vec<f64>,
    /// What must be 0, added up over the rounds.
    faults: BTreeMap<&'static str, u64>,
}

impl Column {
    pub(crate) fn new(name: &str) -> Column {
        Column { name: name.into(), rows: BTreeMap::new() }
    }

    /// Nothing, where the workload needs a second mount and there is none.
    pub(crate) fn add(&mut self, workload: &Workload, measured: Option<Measured>) {
        let Some(measured) = measured else { return };
        let row = self.rows.entry(workload.name).or_default();
        row.rates.push(measured.amount(workload.unit) / measured.took.as_secs_f64());
        row.micros.extend(measured.each.iter().map(|one| one.as_secs_f64() * 1e6));
        for (what, count) in measured.faults {
            *row.faults.entry(what).or_default() += count;
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.rows.values().all(|row| row.faults.values().all(|count| *count == 0))
    }

    fn rate(&self, workload: &str) -> Option<f64> {
        self.rows.get(workload).map(|row| quantile(&row.rates, 0.5))
    }
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(0.0)
}

/// Rows are workloads; columns are rates, then the ratios of all but the first to the first.
pub(crate) fn table(columns: &[Column], verbose: bool) -> String {
    let mut text = String::new();
    let _ = write!(text, "{:<24}{:>6}", "workload", "");
    for column in columns {
        let _ = write!(text, "{:>14}", column.name);
    }
    for column in &columns[1..] {
        let _ = write!(text, "{:>14}", format!("{}/{}", column.name, columns[0].name));
    }
    for workload in WORKLOADS {
        text.push('\n');
        rate_row(&mut text, columns, workload);
        if verbose {
            latency_rows(&mut text, columns, workload);
        }
        fault_rows(&mut text, columns, workload);
    }
    text
}

fn rate_row(text: &mut String, columns: &[Column], workload: &Workload) {
    let unit = match workload.unit {
        Unit::Operations => "1/s",
        Unit::Megabytes => "MB/s",
    };
    let _ = write!(text, "{:<24}{unit:>6}", workload.name);
    for column in columns {
        let rate = column.rate(workload.name).map_or("-".into(), |rate| format!("{rate:.0}"));
        let _ = write!(text, "{rate:>14}");
    }
    let first = columns[0].rate(workload.name);
    for column in &columns[1..] {
        let ratio = match (column.rate(workload.name), first) {
            (Some(rate), Some(first)) if first > 0.0 => format!("{:.2}", rate / first),
            _ => "-".into(),
        };
        let _ = write!(text, "{ratio:>14}");
    }
}

fn latency_rows(text: &mut String, columns: &[Column], workload: &Workload) {
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        let _ = write!(text, "\n  {name:<22}{:>6}", "us");
        for column in columns {
            let micros =
                column.rows.get(workload.name).map_or("-".into(), |row| format!("{:.0}", quantile(&row.micros, q)));
            let _ = write!(text, "{micros:>14}");
        }
    }
}

fn fault_rows(text: &mut String, columns: &[Column], workload: &Workload) {
    for what in workload.truths {
        let _ = write!(text, "\n  {what:<22}{:>6}", "= 0");
        for column in columns {
            let count = column.rows.get(workload.name).map_or("-".into(), |row| row.faults[what].to_string());
            let _ = write!(text, "{count:>14}");
        }
    }
}

pub(crate) fn json(columns: &[Column]) -> String {
    let columns: Vec<Value> = columns.iter().map(column_json).collect();
    json!({ "columns": columns }).to_string()
}

fn column_json(column: &Column) -> Value {
    let rows: serde_json::Map<String, Value> = WORKLOADS
        .iter()
        .filter_map(|workload| Some((workload, column.rows.get(workload.name)?)))
        .map(|(workload, row)| {
            let unit = match workload.unit {
                Unit::Operations => "operations/s",
                Unit::Megabytes => "MB/s",
            };
            let value = json!({
                "rate": quantile(&row.rates, 0.5), "unit": unit, "rounds": row.rates,
                "p50_us": quantile(&row.micros, 0.5), "p99_us": quantile(&row.micros, 0.99), "faults": row.faults,
            });
            (workload.name.to_owned(), value)
        })
        .collect();
    json!({ "name": column.name, "workloads": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.99), 3.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_fault_is_seen() {
        let append2 = WORKLOADS.iter().find(|w| w.name == "append2").unwrap();
        let mut column = Column::new("x");
        let mut measured = Measured::default();
        measured.faults = vec![("lost", 0), ("bad", 0)];
        column.add(append2, Some(measured));
        assert!(column.is_true());
        let mut measured = Measured::default();
        measured.faults = vec![("lost", 1), ("bad", 0)];
        column.add(append2, Some(measured));
        assert!(!column.is_true());
    }
}
