//! Metrics of the process, under the names that Prometheus' own clients give them.

use std::fmt;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::sheet::Sheet;

pub(super) fn write(sheet: &mut Sheet<'_>) -> fmt::Result {
    let Ok(id) = sysinfo::get_current_pid() else {
        return Ok(());
    };
    let Ok(mut system) = System::new() else {
        return Ok(());
    };
    let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, what);
    let Some(process) = system.process(id) else {
        return Ok(());
    };
    sheet.counter_of_seconds(
        "process_cpu_seconds",
        "Time that the process has had on processors",
        process.accumulated_cpu_time() as f64 / 1e3,
    )?;
    sheet.gauge(
        "process_resident_memory_bytes",
        "Memory that the process has",
        [(vec![], process.memory() as f64)],
    )?;
    sheet.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970",
        [(vec![], process.start_time() as f64)],
    )
}
