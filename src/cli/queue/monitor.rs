//! `holdfast queue monitor`: queues and workers as they change.

use std::time::Duration;

use clap::ArgMatches;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::look::{queues_table, workers_table};
use crate::base::limits::MONITOR_ROWS_MAX;
use crate::base::time::Clock as _;
use crate::boot::clock::SystemClock;
use crate::cli::failure::{Failure, USAGE};
use crate::cli::session::Session;
use crate::cli::work::duration;
use crate::io::client::{Client, Json};
use crate::io::terminal::Screen;

/// Looked at more often, it would say nothing more.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Ctrl-C and Ctrl-D, where they come as keys.
const END_KEYS: [u8; 4] = [b'q', b'Q', 3, 4];

/// `holdfast queue monitor`
pub(super) fn monitor(arguments: &ArgMatches) -> Result<(), Failure> {
    let interval = duration(arguments, "interval")?.unwrap_or_default();
    if interval < INTERVAL_MIN {
        return Err(Failure::new(USAGE, "--interval is at least 200ms"));
    }
    let once = arguments.get_flag("once");
    let client = Session::open(arguments)?.into_client();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Asked before the screen is taken, so that what is wrong is read where people look.
        let first = look(&client).await?;
        let screen = if once { None } else { Screen::enter()? };
        if let Some(mut screen) = screen {
            return follow(&client, &mut screen, first, interval).await;
        }
        print!("{}", picture(&first, (usize::MAX, usize::MAX)));
        Ok(())
    })
}

/// What is shown.
struct Seen {
    at: String,
    queues: Vec<Json>,
    workers: Vec<Json>,
}

async fn look(client: &Client) -> Result<Seen, Failure> {
    let list = async |path: &str| -> Result<Vec<Json>, Failure> {
        let path = format!("{path}?limit={MONITOR_ROWS_MAX}");
        let answer = client.read(client.call("GET", &path, None).await?)?;
        if answer.status != 200 {
            return Err(Failure::from_answer(&answer));
        }
        Ok(answer.body["items"].as_array().cloned().unwrap_or_default())
    };
    let (queues, workers) = (list("/v1/queues").await?, list("/v1/workers").await?);
    Ok(Seen { at: SystemClock::new().now().wall.to_string(), queues, workers })
}

/// Shows what there is again and again, until somebody has seen enough. A server that is away may come back.
async fn follow(
    client: &Client,
    screen: &mut Screen,
    first: Seen,
    interval: Duration,
) -> Result<(), Failure> {
    let (mut seen, mut trouble) = (first, None::<String>);
    let mut ends = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    ];
    loop {
        let (columns, rows) = Screen::size();
        let text = picture(&seen, (columns, rows - usize::from(trouble.is_some())));
        screen.show(&match &trouble {
            Some(trouble) => format!("{trouble}\n{text}"),
            None => text,
        })?;
        let [terminate, interrupt, hangup] = &mut ends;
        let next = async {
            // The pause between two looks.
            timeout(interval, std::future::pending::<()>()).await.ok();
            look(client).await
        };
        tokio::select! {
            looked = next => match looked {
                Ok(looked) => (seen, trouble) = (looked, None),
                Err(failure) => trouble = failure.text.lines().next().map(str::to_owned),
            },
            () = end_key(screen) => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

async fn end_key(screen: &mut Screen) {
    // A terminal that has no more keys is not looked at any more.
    while let Ok(key) = screen.key().await {
        if END_KEYS.contains(&key) {
            return;
        }
    }
}

/// Everything on one page of so many columns and rows.
fn picture(seen: &Seen, (columns, rows): (usize, usize)) -> String {
    let sum = |name: &str| seen.queues.iter().filter_map(|queue| queue[name].as_u64()).sum::<u64>();
    let mut text = format!(
        "{}  queues {}  waiting {}  delayed {}  running {}  failed {}  workers {}\n\n",
        seen.at,
        seen.queues.len(),
        sum("waiting"),
        sum("delayed"),
        sum("running"),
        sum("failed"),
        seen.workers.len(),
    );
    text.push_str(&queues_table(&busiest_first(&seen.queues)));
    if !seen.workers.is_empty() {
        text.push('\n');
        text.push_str(&workers_table(&seen.workers));
    }
    let cut = |line: &str| line.chars().take(columns).chain(['\n']).collect::<String>();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= rows {
        return lines.into_iter().map(cut).collect();
    }
    let fit = rows.saturating_sub(1);
    let more = format!("{} more lines; to see them: holdfast queue list", lines.len() - fit);
    lines.into_iter().take(fit).chain([more.as_str()]).map(cut).collect()
}

/// On a small page those that matter come first.
fn busiest_first(queues: &[Json]) -> Vec<Json> {
    let mut queues = queues.to_vec();
    let load = |queue: &Json| {
        let count = |name: &str| queue[name].as_u64().unwrap_or(0);
        std::cmp::Reverse(count("waiting") + count("running"))
    };
    queues.sort_by_key(load);
    queues
}

#[cfg(test)]
mod tests {
    use super::{Seen, picture};
    use serde_json::json;

    fn seen() -> Seen {
        let queue = |name: &str, waiting: u64| {
            json!({
                "queue": name, "waiting": waiting, "delayed": 1, "running": 2, "failed": 0,
                "paused": false, "oldest_waiting_ms": 1500, "pushed_per_minute": 6,
                "done_per_minute": 6, "failure_rate": 0, "wait_ms": { "p95": 20 },
                "run_ms": { "p95": 300 }, "workers": 1
            })
        };
        let worker = json!({
            "id": "w-1", "state": "busy", "host": "a", "pid": 7, "queues": ["mail"], "jobs": [],
            "jobs_done": 3, "rss_bytes": 1 << 20, "last_seen_at": "t"
        });
        let queues = vec![queue("idle", 0), queue("mail", 12)];
        Seen { at: "2026-11-20T12:00:00.000Z".to_owned(), queues, workers: vec![worker] }
    }

    #[test]
    fn the_picture_shows_queues_and_workers() {
        let expected = "\
2026-11-20T12:00:00.000Z  queues 2  waiting 12  delayed 2  running 4  failed 0  workers 1

QUEUE  STATE  WAITING  DELAYED  RUNNING  FAILED  OLDEST  IN/MIN  DONE/MIN  FAIL RATE  WAIT P95  RUN P95  WORKERS
mail   open   12       1        2        0       1.5s    6.0     6.0       0.0%       20ms      300ms    1
idle   open   0        1        2        0       1.5s    6.0     6.0       0.0%       20ms      300ms    1

WORKER  STATE  HOST  PID  QUEUES  JOBS  DONE  MEMORY   HEARD OF
w-1     busy   a     7    mail    0     3     1.0 MiB  t
";
        assert_eq!(picture(&seen(), (usize::MAX, usize::MAX)), expected);
    }

    #[test]
    fn the_picture_fits_its_page() {
        let text = picture(&seen(), (20, 5));
        let expected = "\
2026-11-20T12:00:00.
\nQUEUE  STATE  WAITIN
mail   open   12    
4 more lines; to see
";
        assert_eq!(text, expected);
        assert_eq!(picture(&seen(), (20, 8)).lines().count(), 8);
    }
}
