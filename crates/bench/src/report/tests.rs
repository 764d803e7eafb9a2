use super::*;
use crate::compare::Outcome;
use crate::figures::{Figures, Unit};
use crate::workload::Workload;

fn put_1(rate: f64, spread: Option<[f64; 2]>) -> Figures {
    let mut figures = Figures::default();
    figures.push("puts per second", Unit::PerSecond, rate);
    figures.push("put p50", Unit::Micros, 250.0);
    figures.0[0].spread = spread;
    figures
}

fn scale(rate: f64) -> Figures {
    let mut figures = Figures::default();
    for clients in [1, 10] {
        figures.point("puts per second", "clients", clients, Unit::PerSecond, rate * clients as f64);
    }
    figures
}

fn record() -> Record {
    Record {
        machine: Machine { date: "2026-01-02".into(), cpus: 2, kernel: "Linux 6".into(), ..Machine::default() },
        stentor: "Stentor".into(),
        etcd: Some("etcd 3.5.1".into()),
        full: true,
        rounds: 3,
        outcomes: vec![
            Outcome::new(Workload::Put1, put_1(4_000.0, Some([3_900.0, 4_100.0])), Some(put_1(2_000.0, None))),
            Outcome::new(Workload::PutScale, scale(3_000.0), Some(scale(1_000.0))),
            Outcome::failed(Workload::Page, "it broke\nbadly".into()),
        ],
        ..Record::default()
    }
}

#[test]
fn the_summary_says_better_or_worse_for_each_target() {
    let text = summary(&record().outcomes, true);
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("puts per second").contains("better") && line("puts per second").contains("2.000"), "{text}");
    assert!(line("put p50").contains("WORSE"), "as good is not better: {text}");
    assert!(line("pages per second").contains("not measured"), "{text}");
    assert!(text.ends_with("better than etcd: 1; worse: 1; not compared: 2"), "{text}");
    assert!(line("put p50").contains("MISSED") && line("puts per second").contains("reached"), "{text}");
    let small = summary(&record().outcomes, false);
    assert!(!small.contains("MISSED") && small.contains("not at this size"), "{small}");
    assert!(table(&record().outcomes[0]).contains("4000/s (3900/s to 4100/s)"));
    assert!(table(&record().outcomes[2]).contains("it broke"));
}

#[test]
fn the_documents_hold_everything_and_leave_what_is_around() {
    let directory = tempfile::tempdir().unwrap();
    let (document, charts) = (directory.path().join("b.md"), directory.path().join("b"));
    std::fs::write(&document, "by hand").unwrap();
    assert!(write_documents(&record(), &document, &charts).is_err(), "no marks");
    assert!(!charts.exists() && std::fs::read_to_string(&document).unwrap() == "by hand");
    std::fs::write(&document, format!("before\n\n{BEGIN}\nold\n{END}\n\nafter\n")).unwrap();
    std::fs::create_dir(&charts).unwrap();
    std::fs::write(charts.join("old.svg"), "").unwrap();
    for _ in 0..2 {
        write_documents(&record(), &document, &charts).unwrap();
        let text = std::fs::read_to_string(&document).unwrap();
        assert!(text.starts_with("before\n\n") && text.ends_with("\n\nafter\n") && !text.contains("old"), "{text}");
        assert!(text.contains("| `put-1` | puts per second | 4000/s (3900/s to 4100/s) | 2000/s | 2.000 |"), "{text}");
        assert!(text.contains("2026-01-02: 2 CPUs") && text.contains("](b/put-scale-puts-per-second.svg)"), "{text}");
    }
    let all = std::fs::read_to_string(charts.join("figures.md")).unwrap();
    assert!(all.contains("cargo xtask bench compare --full --rounds 3 put-scale"), "{all}");
    assert!(all.contains("| puts per second, 10 clients | 30000/s | 10000/s | 3.000 |"), "{all}");
    assert!(all.contains("Not measured: it broke\n"), "{all}");
    let svg = std::fs::read_to_string(charts.join("put-scale-puts-per-second.svg")).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 2);
    assert!(!charts.join("old.svg").exists());
}

#[test]
fn records_are_read_back_and_merged() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["a.json", "b.json"].map(|name| directory.path().join(name));
    record().save(&paths[0]).unwrap();
    let mut later = record();
    later.outcomes = vec![Outcome::new(Workload::Page, put_1(1.0, None), None)];
    later.save(&paths[1]).unwrap();
    let merged = Record::load(&paths).unwrap();
    let failed: Vec<_> = merged.outcomes.iter().map(|o| (o.workload.as_str(), o.failure.is_some())).collect();
    assert_eq!(failed, [("put-1", false), ("put-scale", false), ("page", false)]);
    assert_eq!(merged.outcomes[1].stentor, record().outcomes[1].stentor, "curves too");
    later.rounds = 1;
    later.save(&paths[1]).unwrap();
    assert!(Record::load(&paths).is_err(), "other sizes");
    assert!(Record::load(&[] as &[&Path]).is_err());
}
