//! `kill -9` of the real server while writers send samples over HTTP.
//!
//! After each kill the server is started on the same data, and must have every sample that was answered 200 with
//! `durable=1`, and every one that was taken before it by the same writer; bit for bit, and nothing that nobody sent.
//! `HOLDFAST_KILLS=500` for more.

#![expect(
    clippy::cast_precision_loss,
    reason = "numbers of a test are small, and compared to the bit where that is meant"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::Sender;

use holdfast::base::rng::Rng;
use holdfast::base::time::Clock as _;
use holdfast::testing::amount;
use holdfast::testing::clock::SystemClock;
use serde_json::{Value, json};

use crate::serving::{Client, Launch, Server, private_folder, write_and_kill};

const KILLS: u64 = 10;
const WRITERS: u64 = 3;
const SERIES: u64 = 4;

/// By series and moment: the text of the value, as JSON has it.
type Samples = BTreeMap<(u64, i64), String>;

struct Writer {
    number: u64,
    rng: Rng,
    clock: SystemClock,
    /// On disk for certain.
    stored: Samples,
    /// Sent; on disk or not.
    sent: Samples,
    answers: u64,
    last_ms: i64,
}

impl Writer {
    /// A body, and what it says.
    fn choose(&mut self) -> (Value, Samples) {
        let now = self.clock.now().wall.unix_ms();
        let mut samples = Samples::new();
        for _ in 0..=self.rng.below(3) {
            // Each moment is new; some lie in hours that were sealed, or will be sealed as late ones.
            self.last_ms = (self.last_ms + 1).max(now);
            let late = if self.rng.one_in(4) { self.rng.below(80_000_000) } else { 0 };
            let at_ms = self.last_ms - i64::try_from(late).unwrap();
            for series in 0..SERIES {
                let value = (self.rng.below(2_000_000) as f64 - 1e6) / 8.0;
                if !self.sent.contains_key(&(series, at_ms)) {
                    samples.insert((series, at_ms), json!(value).to_string());
                }
            }
        }
        let told: Vec<Value> = samples
            .iter()
            .map(|((series, at_ms), value)| {
                let value: Value = serde_json::from_str(value).unwrap();
                let labels = json!({"writer": self.number.to_string(), "n": series.to_string()});
                let time = Value::from(*at_ms as f64 / 1000.0);
                json!({"metric": "kill_test", "labels": labels, "value": value, "time": time})
            })
            .collect();
        (json!({"samples": told}), samples)
    }

    fn run(&mut self, server: &Server, tell: &Sender<()>) -> io::Result<()> {
        let mut client = Client::connect(server.address)?.with_token(&server.admin);
        loop {
            let (body, samples) = self.choose();
            let count = samples.len();
            self.sent.extend(samples);
            let durable = self.rng.one_in(2);
            let path = if durable { "/v1/series?durable=1" } else { "/v1/series" };
            let answer = client.ask("POST", path, Some(&body))?;
            let wanted = if durable { 200 } else { 202 };
            assert_eq!(answer.status, wanted, "{body}: {answer:?}");
            assert_eq!(answer.json(), json!({"accepted": count, "rejected": []}), "{body}");
            if durable {
                // The log holds everything that came before, too.
                self.stored = self.sent.clone();
            }
            self.answers += 1;
            let _ = tell.send(());
        }
    }

    /// Holds what is there against what is known; from now on it is known.
    fn settle(&mut self, server: &Server) -> Result<(), String> {
        let found = self.found(server)?;
        for (place, value) in &self.stored {
            if found.get(place) != Some(value) {
                let there = found.get(place);
                return Err(format!("LOST: {place:?} is {there:?}, {value} was on disk"));
            }
        }
        for (place, value) in &found {
            if self.sent.get(place) != Some(value) {
                return Err(format!("INVENTED: {place:?} is {value}"));
            }
        }
        self.stored.clone_from(&found);
        self.sent = found;
        Ok(())
    }

    fn found(&self, server: &Server) -> Result<Samples, String> {
        let mut client = server.administrator();
        let now = self.clock.now().wall.unix_ms() / 1000;
        let mut found = Samples::new();
        // In windows, so that no answer has too many points.
        for window in 0..25 {
            let (from, to) = (now - 3_600 * (window + 1) + 60, now - 3_600 * window + 60);
            let select = format!("kill_test%7Bwriter=%22{}%22%7D", self.number);
            let path = format!("/v1/series/query?select={select}&fn=raw&from={from}&to={to}");
            let answer = client.ask("GET", &path, None).map_err(|error| error.to_string())?;
            if answer.status != 200 {
                return Err(format!("{answer:?}"));
            }
            for line in answer.json()["series"].as_array().unwrap() {
                let series = line["labels"]["n"].as_str().unwrap().parse().unwrap();
                for point in line["points"].as_array().unwrap() {
                    let at_ms = point[0].as_i64().unwrap();
                    let value = json!(point[1].as_f64().unwrap()).to_string();
                    found.insert((series, at_ms), value);
                }
            }
        }
        Ok(found)
    }
}

#[test]
fn no_sample_is_lost_by_kill_9_that_was_answered_as_durable() {
    let (seed, kills) = (amount("HOLDFAST_SEED", 6), amount("HOLDFAST_KILLS", KILLS));
    let folder = private_folder();
    let launch = Launch::new(folder.path());
    let mut rng = Rng::from_seed(seed);
    let writer = |number| Writer {
        number,
        rng: Rng::from_seed(seed << 8 | number),
        clock: SystemClock::new(),
        stored: Samples::new(),
        sent: Samples::new(),
        answers: 0,
        last_ms: 0,
    };
    let mut writers: Vec<Writer> = (0..WRITERS).map(writer).collect();
    for kill in 0..=kills {
        let server = launch.ready();
        for writer in &mut writers {
            if let Err(error) = writer.settle(&server) {
                panic!("seed={seed} kill={kill}: {error}\n{}", server.log());
            }
        }
        if kill < kills {
            write_and_kill(server, &mut writers, 5 + rng.below(150), Writer::run);
        } else {
            server.stop();
        }
    }
    let server = launch.ready();
    for writer in &mut writers {
        writer.settle(&server).unwrap_or_else(|error| panic!("after an end in order: {error}"));
        assert!(!writer.stored.is_empty());
    }
    let answers: u64 = writers.iter().map(|writer| writer.answers).sum();
    assert!(kills < answers, "{answers}");
    drop(server);
}
