//! Commands: one JSON object a line comes in, one goes out.
//!
//! | command | answer |
//! |---|---|
//! | `{"open": {"module": PATH, "token": LABEL, "pin": PIN}}`; without `module`: the raw AWS-LC | `{"opened": DESCRIPTION}` |
//! | `{"prepare": CASE}` | `{"prepared": true}` |
//! | `{"crossing": {}}` | `crossing`: ns that a cache line takes from one CPU to another, null with one CPU |
//! | `{"run": CASE}` | `rate` (1/s), `seconds` and in them `client_cpu` and `server_cpu` (ns), `latencies` (ns: count) |
//!
//! CASE: `operation` (a name), `bytes`, `token_objects`, `in_flight`, `threads`, and for `run`
//! `milliseconds`, `warm_up` (ms), `latency` (whether to time each operation), `servers` (processes). What the
//! library cannot do is answered with `{"unsupported": WHY}`, all else that fails with
//! `{"error": WHY}`, both with a `code` where a function of the library answered with one; the
//! process goes on.

use crate::crossing;
use crate::failure::Failure;
use crate::library::Library;
use crate::measure::{self, Lane, Measured, Slice};
use crate::operation::{Case, Operation};
use crate::raw::Raw;
use crate::token::Token;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// What is measured.
enum Subject {
    Raw(Raw),
    Token(Token),
}

/// The process's state: what is measured, and the loops that were made.
#[derive(Default)]
pub struct Bench {
    // Lanes hold sessions, so they go first.
    lanes: HashMap<Case, Vec<Box<dyn Lane>>>,
    subject: Option<Subject>,
}

impl Bench {
    /// Answers one command.
    pub fn answer(&mut self, line: &str) -> Value {
        match self.act(line) {
            Ok(value) => value,
            Err(failure) => {
                let kind = if failure.is_unsupported() {
                    "unsupported"
                } else {
                    "error"
                };
                json!({kind: failure.to_string(), "code": failure.code()})
            }
        }
    }

    fn act(&mut self, line: &str) -> Result<Value, Failure> {
        let command: Value = serde_json::from_str(line)
            .map_err(|error| Failure::Other(format!("not a command: {error}")))?;
        let entry = |name: &str| command.get(name).and_then(Value::as_object);
        if let Some(what) = entry("open") {
            return self.open(what);
        }
        if let Some(what) = entry("prepare") {
            self.lanes(what)?;
            return Ok(json!({"prepared": true}));
        }
        if entry("crossing").is_some() {
            return Ok(json!({"crossing": crossing::one_way()}));
        }
        if let Some(what) = entry("run") {
            let slice = Slice {
                length: Duration::from_millis(number(what, "milliseconds")?),
                latency: flag(what, "latency"),
                warm_up: Duration::from_millis(number(what, "warm_up")?),
                servers: what
                    .get("servers")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|process| process.as_i64()?.try_into().ok())
                    .collect(),
            };
            return Ok(report(&measure::run(self.lanes(what)?, &slice)?));
        }
        Err(Failure::Other("no such command".into()))
    }

    fn open(&mut self, what: &Map<String, Value>) -> Result<Value, Failure> {
        let text = |name: &str| what.get(name).and_then(Value::as_str);
        let (subject, description) = match text("module") {
            None => (
                Subject::Raw(Raw::default()),
                "AWS-LC, called in process".to_owned(),
            ),
            Some(path) => {
                let library = Library::open(path, text("token"), text("pin"))?;
                let description = library.description.clone();
                (Subject::Token(Token::new(library)?), description)
            }
        };
        self.subject = Some(subject);
        Ok(json!({"opened": description}))
    }

    /// The loops of a case, one for each thread.
    fn lanes(&mut self, what: &Map<String, Value>) -> Result<&mut [Box<dyn Lane>], Failure> {
        let name = what.get("operation").and_then(Value::as_str).unwrap_or("");
        let size = |name| Ok(usize::try_from(number(what, name)?).unwrap_or(usize::MAX));
        let case = Case {
            operation: Operation::named(name)
                .ok_or_else(|| Failure::Other(format!("no operation is called {name:?}")))?,
            bytes: size("bytes")?,
            token_objects: flag(what, "token_objects"),
            in_flight: size("in_flight")?,
        };
        let threads = size("threads")?.max(1);
        let lanes = self.lanes.entry(case).or_default();
        while lanes.len() < threads {
            lanes.push(match &mut self.subject {
                Some(Subject::Raw(raw)) => raw.lane(&case),
                Some(Subject::Token(token)) => token.lane(&case),
                None => Err(Failure::Other("nothing is open".into())),
            }?);
        }
        lanes
            .get_mut(..threads)
            .ok_or_else(|| Failure::Other("no loops".into()))
    }
}

fn number(what: &Map<String, Value>, name: &str) -> Result<u64, Failure> {
    what.get(name)
        .and_then(Value::as_u64)
        .ok_or_else(|| Failure::Other(format!("{name} must be a number")))
}

fn flag(what: &Map<String, Value>, name: &str) -> bool {
    what.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn report(measured: &Measured) -> Value {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let latencies: Map<String, Value> = measured
        .histogram
        .buckets()
        .into_iter()
        .map(|(lowest, count)| (lowest.to_string(), Value::from(count)))
        .collect();
    json!({
        "rate": measured.rate,
        "seconds": measured.counted.as_secs_f64(),
        "client_cpu": nanoseconds(measured.client_cpu),
        "server_cpu": nanoseconds(measured.server_cpu),
        "latencies": latencies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(operation: &str) -> Value {
        json!({
            "operation": operation, "bytes": 64, "token_objects": true, "in_flight": 1,
            "threads": 2, "milliseconds": 1, "warm_up": 0, "servers": [std::process::id()],
        })
    }

    #[test]
    fn every_operation_runs_on_aws_lc() {
        let mut bench = Bench::default();
        assert!(bench.answer(r#"{"open": {}}"#).get("opened").is_some());
        for operation in [
            "sign-p256",
            "sign-p384",
            "sign-rsa2048",
            "sign-mldsa65",
            "encrypt-aes256gcm",
            "mac-hmacsha256",
            "digest-sha256",
            "random",
            "generate-p256",
            "generate-mldsa65",
        ] {
            let answer = bench.answer(&json!({"run": case(operation)}).to_string());
            assert!(
                answer["rate"].as_f64().unwrap() > 0.0,
                "{operation}: {answer}"
            );
            assert!(
                answer["client_cpu"].as_u64().unwrap() > 0,
                "{operation}: {answer}"
            );
            assert!(
                answer["server_cpu"].as_u64().unwrap() > 0,
                "{operation}: {answer}"
            );
        }
        let answer = bench.answer(&json!({"run": case("round-trip")}).to_string());
        assert!(answer.get("unsupported").is_some(), "{answer}");
    }

    #[test]
    fn each_latency_is_one_operation() {
        let mut bench = Bench::default();
        bench.answer(r#"{"open": {}}"#);
        let mut timed = case("sign-p256");
        timed["threads"] = json!(1);
        timed["latency"] = json!(true);
        let answer = bench.answer(&json!({"run": timed}).to_string());
        let buckets = answer["latencies"].as_object().unwrap();
        let total: u64 = buckets
            .iter()
            .map(|(lowest, count)| lowest.parse::<u64>().unwrap() * count.as_u64().unwrap())
            .sum();
        // The buckets' lower ends, so at most what the part lasted: a millisecond and one operation.
        assert!(total > 0 && total < 1_000_000_000, "{answer}");
    }

    #[test]
    fn what_is_not_a_command_is_answered_and_the_next_one_too() {
        let mut bench = Bench::default();
        for line in [
            "",
            "[]",
            "{}",
            r#"{"run": {}}"#,
            r#"{"run": {"operation": "sign-aes256"}}"#,
            r#"{"prepare": {"operation": "random", "bytes": -1, "in_flight": 1, "threads": 1}}"#,
            r#"{"open": {"module": "/nowhere.so"}}"#,
        ] {
            let answer = bench.answer(line);
            assert!(answer["error"].is_string(), "{line}: {answer}");
            assert!(answer["code"].is_null(), "{line}: {answer}");
        }
        // Nothing was opened.
        let answer = bench.answer(&json!({"prepare": case("random")}).to_string());
        assert_eq!(answer["error"], "nothing is open");
        assert!(bench.answer(r#"{"open": {}}"#).get("opened").is_some());
    }
}
