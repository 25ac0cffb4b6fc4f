//! Bars on a terminal while a run goes on; nothing in a pipe.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use vintner_core::ViewId;
use vintner_ops::api::{MaterializeEvent, Phase};

/// One line per view that is being materialized. indicatif draws on stderr, and only on a terminal.
pub(crate) struct Bars {
    all: MultiProgress,
    views: Mutex<HashMap<ViewId, ProgressBar>>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            views: Mutex::default(),
        }
    }

    /// Shows an event.
    pub(crate) fn event(&self, event: &MaterializeEvent) {
        let Ok(mut views) = self.views.lock() else {
            return;
        };
        match event {
            MaterializeEvent::Started { view, plan } => {
                let bar = self.all.add(spinner());
                bar.set_prefix(view.to_string());
                bar.set_message(plan.clone());
                views.insert(view.clone(), bar);
            }
            MaterializeEvent::Progress { view, phase, rows } => {
                if let Some(bar) = views.get(view) {
                    bar.set_position(*rows);
                    bar.set_message(match phase {
                        Phase::Offline => "to the offline store",
                        Phase::Online => "to the online store",
                    });
                }
            }
            MaterializeEvent::Finished(run) => {
                if let Some(bar) = views.remove(&run.view) {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// A line that counts rows.
pub(crate) fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {prefix} {human_pos} rows, {per_sec} {wide_msg}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
