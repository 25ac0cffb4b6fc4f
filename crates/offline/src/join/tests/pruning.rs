//! What is left out of a scan is never needed: one part of a table per instant, at every boundary that a rule has.

use super::*;

/// A row of one key at each instant, and one entity row.
fn case_at(
    times: &[Timestamp],
    ttl: Option<Ttl>,
    asked: Timestamp,
    (knowledge, boundary): (Knowledge, Boundary),
) -> JoinCase {
    let rows: Vec<_> = times
        .iter()
        .map(|time| (time.micros(), time.micros(), Some(time.micros())))
        .collect();
    let mut case = case(&[(Some(1), Some(asked.micros()))], 0, &rows);
    case.views[0].ttl = ttl;
    (case.knowledge, case.boundary) = (knowledge, boundary);
    case
}

/// How many rows are not too old and not too new, in numbers that cannot overflow.
fn in_reach(times: &[Timestamp], ttl: Option<Ttl>, asked: Timestamp) -> usize {
    let at = i128::from(asked.micros());
    let is_in_reach = |time: &&Timestamp| {
        let event = i128::from(time.micros());
        event <= at && ttl.is_none_or(|ttl| event >= at - i128::from(ttl.micros()))
    };
    times.iter().filter(is_in_reach).count()
}

/// Every instant in a part of its own: a file by the log's bounds, a file by its own statistics, a row group, a page.
#[test]
fn exactly_the_parts_that_can_count_are_read() {
    let modes = [
        (Knowledge::Event, Boundary::At),
        (Knowledge::Available, Boundary::Before),
    ];
    let by_page = Files {
        page_rows: 1,
        ..ONE
    };
    let by_group = Files {
        group_rows: 1,
        ..ONE
    };
    for anchor in grid::ANCHORS {
        for ttl in grid::TTLS {
            let times = grid::instants(anchor, ttl);
            let apart: Vec<_> = (0..times.len()).map(|row| vec![row]).collect();
            let together = [(0..times.len()).collect::<Vec<_>>()];
            let any = case_at(&times, None, times[0], modes[0]);
            let objects = Arc::new(InMemory::new());
            let table = |name: &str, files: Files, rows: &[Vec<usize>]| {
                files.table_of(&objects, name, (&any, 0), rows)
            };
            let bounds = |bounds| Files { bounds, ..ONE };
            let tables = [
                table("files", bounds(Bounds::Exact), &apart),
                table("millis", bounds(Bounds::Millis), &apart),
                table("unknown", bounds(Bounds::Unknown), &apart),
                table("groups", by_group, &together),
                table("pages", by_page, &together),
            ];
            for ttl in [None, Ttl::from_micros(ttl)] {
                for mode in modes {
                    for &asked in &times {
                        let case = case_at(&times, ttl, asked, mode);
                        let (want, reach) = (oracle::join(&case), in_reach(&times, ttl, asked));
                        for (place, table) in tables.iter().enumerate() {
                            let plan = PitJoinExec::try_new(
                                Arc::new(spec(&case)),
                                entity_plan(&case, 1),
                                [table.clone()].into(),
                            );
                            let plan = plan.unwrap();
                            let context = context(100, unbounded());
                            let told = format!(
                                "table {place}, anchor {anchor}, ttl {ttl:?}, at {asked}, {mode:?}"
                            );
                            assert_eq!(run_plan(&case, &plan, context), want, "{told}");
                            let pruned = plan.counts().views[0].pruned;
                            assert_eq!(pruned.rows_read, reach as u64, "{told}");
                            if place == 0 {
                                assert_eq!(pruned.files_opened, reach, "{told}");
                            }
                        }
                    }
                }
            }
        }
    }
}
