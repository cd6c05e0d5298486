//! `pilotlight logs`: the log of a function.
//!
//! ```text
//! logs ─► gateway, through endpoint   (a gateway answers: local mode, or a cluster)
//!   ├───► files                       (no gateway: what earlier runs of local mode have logged)
//!   └───► show
//! ```
//!
//! Owns the options, which become the parameters of the gateway's API. Both readers select the same records by them
//! (`pilotlight-logs::parameters`). Nothing is filtered or kept here.

mod files;
mod show;

use std::io::{self, BufRead, BufReader, ErrorKind};

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use pilotlight_logs::entry::Entry;
use pilotlight_logs::query::PAGE_LIMIT;

use self::show::{Form, Shown};
use crate::endpoint::{self, Endpoint, Gateway};
use crate::exit::Exit;
use crate::log_folder::LogFolder;

/// Print a function's log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the function.
    name: String,
    /// Print all records of this call; `pilotlight invoke` and the header x-amzn-requestid have the id.
    #[arg(value_name = "REQUEST_ID", conflicts_with = "request_id")]
    call: Option<String>,
    /// Keep printing new records until interrupted.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    selection: Selected,
    /// Print the first N records that are selected, 1 to 10000 [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=PAGE_LIMIT as u64))]
    limit: Option<u64>,
    /// Print the last N records that are selected, 1 to 10000.
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        conflicts_with = "limit",
        value_parser = clap::value_parser!(u64).range(1..=PAGE_LIMIT as u64)
    )]
    tail: Option<u64>,
    /// How records are printed: `text`, or `json` with a record per line.
    #[arg(long, short, value_enum, default_value_t, value_name = "FORM")]
    output: Form,
    /// Read the files of local mode, whether a gateway runs or not.
    #[arg(long, conflicts_with = "follow")]
    files: bool,
    #[command(flatten)]
    folder: LogFolder,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Which records are printed: those that meet all conditions.
#[derive(Debug, clap::Args)]
struct Selected {
    /// From a time such as 2026-01-31T10:00:00Z on, or of an age such as 5m and younger.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| time(text, Timestamp::now()))]
    since: Option<Timestamp>,
    /// Before such a time, or older than such an age.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| time(text, Timestamp::now()))]
    until: Option<Timestamp>,
    /// With this text; may be given several times.
    #[arg(long = "filter", value_name = "TEXT")]
    texts: Vec<String>,
    /// With a text that matches a regular expression, such as '(?i)timed? ?out'.
    #[arg(long, value_name = "PATTERN")]
    regex: Option<String>,
    /// In JSON, with this field, such as order.id=17; may be given several times.
    #[arg(long = "field", value_name = "PATH=VALUE")]
    fields: Vec<String>,
    /// Of this level or a more severe one: TRACE, DEBUG, INFO, WARN, ERROR or FATAL.
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Of one instance. Its name is in `--output json`.
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Of one call.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Printed to stdout or to stderr, or written by the platform.
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Of calls that ended with an error or a timeout.
    #[arg(long)]
    failed: bool,
    /// Of calls that took this many milliseconds or longer.
    #[arg(long, value_name = "MS")]
    slow: Option<f64>,
    /// Of calls that were the first of their instance.
    #[arg(long)]
    cold: bool,
}

/// Names and values of the API's parameters.
type Parameters = Vec<(&'static str, String)>;

impl Args {
    fn request_id(&self) -> Option<&String> {
        self.call.as_ref().or(self.selection.request_id.as_ref())
    }

    /// The selection alone.
    fn parameters(&self) -> Parameters {
        let Selected {
            since,
            until,
            texts,
            regex,
            fields,
            level,
            instance,
            source,
            failed,
            slow,
            cold,
            ..
        } = &self.selection;
        let mut parameters = Parameters::new();
        let mut add = |name, value: Option<String>| parameters.extend(value.map(|v| (name, v)));
        add("since", since.map(|time| time.to_string()));
        add("until", until.map(|time| time.to_string()));
        for text in texts {
            add("text", Some(text.clone()));
        }
        add("regex", regex.clone());
        for field in fields {
            add("field", Some(field.clone()));
        }
        add("level", level.clone());
        add("instance", instance.clone());
        add("request-id", self.request_id().cloned());
        add("source", source.clone());
        add("failed", failed.then(|| "true".to_owned()));
        add("slow", slow.map(|slow| slow.to_string()));
        add("cold", cold.then(|| "true".to_owned()));
        parameters
    }

    /// The parameters of the first question. `follow` may need a second one.
    fn first(&self) -> Parameters {
        let mut parameters = self.parameters();
        if let Some(tail) = self.tail {
            parameters.push(("order", "newest-first".to_owned()));
            parameters.push(("limit", tail.to_string()));
        } else if let Some(limit) = self.limit {
            parameters.push(("limit", limit.to_string()));
        } else if self.follow {
            parameters.push(("follow", "true".to_owned()));
        }
        parameters
    }
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    if args.follow && args.limit.is_some() {
        bail!("--follow cannot be used with --limit; --tail N prints the last records first");
    }
    // Records of one instance need no name of it in each line, nor do those of one call.
    let is_merged = args.selection.instance.is_none() && args.request_id().is_none();
    let mut shown = Shown::new(args.output, is_merged);
    let printed = match args.files {
        true => files::print(&args.folder.path()?, &args.name, &args.first(), &mut shown),
        false => from_gateway(args, &mut shown),
    };
    match printed {
        Ok(()) => {}
        // The reader has closed the pipe.
        Err(error) if is_broken_pipe(&error) => return Ok(Exit::Success),
        Err(error) => return Err(error),
    }
    if args.request_id().is_some() {
        shown.trace();
    }
    Ok(Exit::Success)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn from_gateway(args: &Args, shown: &mut Shown) -> Result<()> {
    let gateway = args.endpoint.open()?;
    let answer = match get(&gateway, args, &args.first()) {
        Err(error) if is_refused(&error) && !args.follow && args.endpoint.is_default() => {
            let folder = args.folder.path()?;
            if !files::are_there(&folder, &args.name) {
                return Err(gateway.unanswered(error));
            }
            anstream::eprintln!(
                "no gateway answers: these are the files in {}",
                folder.display()
            );
            return files::print(&folder, &args.name, &args.first(), shown);
        }
        answer => answer.map_err(|error| gateway.unanswered(error))??,
    };
    let mut last = None;
    match args.tail {
        Some(_) => {
            let records = answer.collect::<Result<Vec<_>>>()?;
            for record in records.iter().rev() {
                shown.print(record)?;
            }
            last = records.first().map(Entry::position);
        }
        None => {
            for record in answer {
                shown.print(&record?)?;
            }
        }
    }
    if args.follow && args.tail.is_some() {
        let mut parameters = args.parameters();
        parameters.push(("follow", "true".to_owned()));
        // Without a record yet, all that come are new.
        parameters.extend(last.map(|last| ("after", last.cursor())));
        let answer = get(&gateway, args, &parameters);
        let answer = answer.map_err(|error| gateway.unanswered(error))??;
        for record in answer {
            shown.print(&record?)?;
        }
    }
    Ok(())
}

/// The records of an answer, as they come.
type Records = Box<dyn Iterator<Item = Result<Entry>>>;

/// Asks the gateway. The outer error: there was no answer.
fn get(
    gateway: &Gateway,
    args: &Args,
    parameters: &Parameters,
) -> Result<Result<Records>, ureq::Error> {
    let name = endpoint::encode(&args.name);
    let query: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", endpoint::encode(value)))
        .collect();
    let path = format!("/pilotlight/v1/functions/{name}/logs?{}", query.join("&"));
    let request = match gateway.get(&path) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    let answer = request.call()?;
    if !answer.status().is_success() {
        return Ok(Err(
            endpoint::refusal(&args.name, answer).unwrap_or_else(|error| error)
        ));
    }
    let lines = BufReader::new(answer.into_body().into_reader()).lines();
    let records = lines.map(|line| {
        let line = line.context("the log broke off: the gateway has ended")?;
        serde_json::from_str::<Entry>(&line)
            .with_context(|| format!("not a log record; is this a Pilotlight gateway? {line}"))
    });
    Ok(Ok(Box::new(records)))
}

fn is_refused(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(cause) => cause.kind() == ErrorKind::ConnectionRefused,
        ureq::Error::ConnectionFailed => true,
        _ => false,
    }
}

/// Reads a point in time, or an age before `now`.
fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let age = text
        .parse::<SignedDuration>()
        .ok()
        .filter(|age| !age.is_negative());
    age.and_then(|age| now.checked_sub(age).ok())
        .ok_or_else(|| {
            "must be an age such as 90s, 5m or 1h30m, or a time such as 2026-01-31T10:00:00Z"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parameters(options: &[&str]) -> Vec<String> {
        let line = Line::try_parse_from([&["logs", "hello"], options].concat());
        let first = line.expect("good options").args.first();
        let joined = first.iter().map(|(name, value)| format!("{name}={value}"));
        joined.collect()
    }

    #[test]
    fn options_become_parameters_of_the_api() {
        let all = parameters(&[
            "--since=2026-01-31T10:00:00Z",
            "--until=2026-01-31T11:00:00Z",
            "--filter=a",
            "--filter=b",
            "--regex=^c",
            "--field=d=e",
            "--level=warn",
            "--instance=i",
            "--request-id=r",
            "--source=stderr",
            "--failed",
            "--slow=2.5",
            "--cold",
            "--follow",
        ]);
        let expected = "since=2026-01-31T10:00:00Z until=2026-01-31T11:00:00Z text=a text=b regex=^c field=d=e \
                        level=warn instance=i request-id=r source=stderr failed=true slow=2.5 cold=true follow=true";
        assert_eq!(all.join(" "), expected);
        assert_eq!(parameters(&["8f3c"]), ["request-id=8f3c"]);
        assert_eq!(parameters(&["--limit=5"]), ["limit=5"]);
        // The last ones first, and what comes later with another question.
        let tail = parameters(&["-n5", "--follow"]);
        assert_eq!(tail, ["order=newest-first", "limit=5"]);
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for options in [
            &["r1", "--request-id=r2"][..],
            &["--tail=5", "--limit=5"],
            &["--tail=0"],
            &["--limit=10001"],
            &["--files", "--follow"],
            &["--output=xml"],
        ] {
            let line = Line::try_parse_from([&["logs", "hello"], options].concat());
            assert!(line.is_err(), "{options:?}");
        }
    }

    #[test]
    fn a_time_may_be_an_age() {
        let now: Timestamp = "2026-01-31T10:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("5m", "2026-01-31T09:55:00Z"),
            ("90s", "2026-01-31T09:58:30Z"),
            ("1h30m", "2026-01-31T08:30:00Z"),
            ("0s", "2026-01-31T10:00:00Z"),
            ("2026-01-30T12:00:00+02:00", "2026-01-30T10:00:00Z"),
        ] {
            assert_eq!(
                time(text, now),
                Ok(expected.parse().expect("a time")),
                "{text}"
            );
        }
        for text in ["", "5", "yesterday", "-5m", "5 months", "2026-01-31"] {
            assert!(time(text, now).is_err(), "{text}");
        }
    }
}
