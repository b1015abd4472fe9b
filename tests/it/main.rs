//! Everything that is tested from outside the library, in one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod cache_cli;
mod cache_snapshot;
mod cli;
mod data_dir;
mod drain;
mod flood;
mod fuzz_corpus;
mod health_cli;
mod host_readings;
mod io_errors;
mod isolation;
mod kept_kill;
mod kill;
mod packaging;
mod queue_cli;
mod queue_kill;
mod readme;
mod series_cli;
mod series_kill;
mod series_model;
mod server_kill;
mod serving;
mod stand_in;
mod support;
mod tidy;
mod torn;
mod torn_kept;
mod torn_queue;
mod torn_series;
mod work;
mod work_cli;
