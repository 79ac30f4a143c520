//! CPU time and resident memory of a server's process, as reported by the operating system.
//!
//! CPU time is read thread by thread from `schedstat`, which counts in nanoseconds where `stat`
//! counts in hundredths of a second. It is the most stable figure on a shared machine: it excludes
//! the time of other processes.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// CPU time of each thread of a process at one moment, by thread id.
pub(crate) struct CpuTimes(HashMap<String, u64>);

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// `VmRSS`: resident now.
    pub(crate) resident: u64,
    /// `VmHWM`: the peak.
    pub(crate) peak: u64,
}

/// The process cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(
        "cannot read {path}: {source}; the benchmark needs Linux, and the server must be alive"
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} has no `{what}`; is this Linux?")]
    Missing { path: PathBuf, what: &'static str },
}

// === impl CpuTimes ===

impl CpuTimes {
    /// Reads the CPU times of process `pid`.
    pub(crate) fn read(pid: u32) -> Result<Self, ReadError> {
        let threads = PathBuf::from(format!("/proc/{pid}/task"));
        let failed = |source| ReadError::Read { path: threads.clone(), source };
        let mut times = HashMap::new();
        for thread in fs::read_dir(&threads).map_err(failed)? {
            let thread = thread.map_err(failed)?;
            let path = thread.path().join("schedstat");
            let text = match fs::read_to_string(&path) {
                // A thread that ended while we were reading.
                Err(error) if !thread.path().exists() => {
                    drop(error);
                    continue;
                }
                text => text.map_err(|source| ReadError::Read { path: path.clone(), source })?,
            };
            let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
            let nanoseconds = nanoseconds.ok_or(ReadError::Missing { path, what: "CPU time" })?;
            times.insert(thread.file_name().to_string_lossy().into_owned(), nanoseconds);
        }
        Ok(Self(times))
    }

    /// The CPU time that the process has used since `earlier`. The time of threads that have ended
    /// since is lost; the threads that serve requests do not end.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let used = self.0.iter().map(|(thread, now)| {
            now.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default())
        });
        Duration::from_nanos(used.sum())
    }
}

// === impl Memory ===

impl Memory {
    /// Reads the memory of process `pid`.
    pub(crate) fn read(pid: u32) -> Result<Self, ReadError> {
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        let status = fs::read_to_string(&path)
            .map_err(|source| ReadError::Read { path: path.clone(), source })?;
        Ok(Self {
            resident: field(&path, &status, "VmRSS:")?,
            peak: field(&path, &status, "VmHWM:")?,
        })
    }
}

/// A field of `/proc/<pid>/status`, which counts in units of 1024 bytes.
fn field(path: &Path, status: &str, name: &'static str) -> Result<u64, ReadError> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let kibibytes =
        number.ok_or_else(|| ReadError::Missing { path: path.to_owned(), what: name })?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn cpu_time_grows_with_work_and_memory_is_resident() {
        let pid = std::process::id();
        let before = CpuTimes::read(pid).unwrap();
        let begun = Instant::now();
        while CpuTimes::read(pid).unwrap().since(&before) < Duration::from_millis(5) {
            assert!(begun.elapsed() < Duration::from_secs(30), "no progress");
        }
        let memory = Memory::read(pid).unwrap();
        assert!(memory.resident > 0 && memory.peak >= memory.resident);
    }
}
