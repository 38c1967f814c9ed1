//! What processes cost, as Linux counts it: time of a core, and memory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::Place;

use super::statistics::number;

/// The kernel counts in hundredths of a second, on every architecture.
const TICKS: f64 = 100.0;

/// The servers' processes.
pub struct Servers {
    postmaster: u32,
    broker: u32,
}

impl Servers {
    /// Finds the servers of `script/services`.
    pub async fn find(place: &Place) -> Self {
        let backend: i32 = place.value("select pg_backend_pid()").await;
        let postmaster = stat(backend.unsigned_abs()).expect("PostgreSQL does not run on this machine").parent;
        let node = format!("RABBITMQ_NODENAME={}\0", std::env::var("RABBITMQ_NODENAME").unwrap());
        let has = |pid: &u32, file: &str, words: &str| {
            let found = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            memchr::memmem::find(&found, words.as_bytes()).is_some()
        };
        let is_broker = |pid: &u32| has(pid, "cmdline", "beam.smp") && has(pid, "environ", &node);
        let broker = all().find(is_broker).expect("RabbitMQ does not run on this machine");
        Self { postmaster, broker }
    }

    /// Seconds of a core that PostgreSQL has used: its own, those of children that ended, and of those that run.
    pub fn postgres(&self) -> f64 {
        let own = stat(self.postmaster).map_or(0.0, |stat| stat.own + stat.ended_children);
        let children = all().filter_map(stat).filter(|stat| stat.parent == self.postmaster);
        own + children.map(|child| child.own).sum::<f64>()
    }

    /// Seconds of a core that RabbitMQ has used.
    pub fn broker(&self) -> f64 {
        cpu(self.broker)
    }
}

/// Seconds of a core that a process has used.
pub fn cpu(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.own)
}

/// The same from the scheduler's clocks, which count nanoseconds; what threads that ended have used is missing.
pub fn fine_cpu(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| read_clock(&task.unwrap().path().join("schedstat"))).sum()
}

/// Where this thread's time is counted.
pub fn clock_of_this_thread() -> PathBuf {
    Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap()).join("schedstat")
}

/// Seconds on such a clock.
pub fn read_clock(clock: &Path) -> f64 {
    let nanoseconds = fs::read_to_string(clock).ok();
    let nanoseconds: Option<f64> = nanoseconds.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.unwrap_or_default() / 1e9
}

/// MiB of memory in use now.
pub fn resident(pid: u32) -> f64 {
    mebibytes(pid, "VmRSS:")
}

/// MiB of memory at its highest.
pub fn peak(pid: u32) -> f64 {
    mebibytes(pid, "VmHWM:")
}

fn mebibytes(pid: u32, line: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_default();
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    kibibytes / 1024.0
}

/// Who else works: the processes that wanted to run, on average over the last minute.
pub fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// The machine, in words.
pub fn machine() -> String {
    let cores = number(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} cores of {}", model.map_or("an unknown processor", |(_, model)| model.trim()))
}

struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may hold anything. What follows begins with the state, field 3 of proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|ticks| ticks.parse().ok()).unwrap_or(0.0) / TICKS;
    let parent = fields.get(1)?.parse().ok()?;
    Some(Stat { parent, own: ticks(14) + ticks(15), ended_children: ticks(16) + ticks(17) })
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
