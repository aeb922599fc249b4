//! The manager, worker processes and the cache on a disk that is full: every call is answered, with the right numbers.
//! This program is its own worker, and runs itself again where the disk is small.
#![cfg_attr(target_os = "linux", expect(clippy::print_stdout, reason = "what could not be tried is said"))]

#[cfg(target_os = "linux")]
mod on_linux {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::time::{Duration, Instant};

    use milwright::cache::{Options, Store};
    use milwright::manager::{BreakerOptions, Call, Manager, ModelHandle, ModelOptions};
    use milwright::{
        Backend, Candidate, Cpu, InferenceRequest, Isolated, Launch, LoadOptions, Model, PlanOrigin,
        Prediction, Process, RestartPolicy, Samples, WorkerEvent, worker,
    };
    use rustix::process::{Pid, Signal, kill_process};

    const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");
    const CALLS: usize = 1200;
    /// The worker is killed after so many.
    const KILL_EVERY: usize = 100;
    /// For what must happen, on a machine however busy.
    const LONG: Duration = Duration::from_secs(120);

    pub fn main() {
        let args: Vec<String> = std::env::args().collect();
        match args.get(1).map(String::as_str) {
            Some("worker") => return worker::serve().unwrap(),
            Some("inside") => return inside(Path::new(&args[2])),
            _ => {}
        }
        // A disk of 2 MB, in a namespace of mounts of our own.
        let mount = "mount -t tmpfs -o size=2m none \"$1\"";
        if Command::new("unshare")
            .args(["-rm", "sh", "-c", mount, "sh", "/tmp"])
            .status()
            .is_ok_and(|s| s.success())
        {
            again(&["unshare", "-rm", "sh", "-c", &format!("{mount} && exec \"$0\" inside \"$1\"")]);
        } else {
            println!("not tried: a small disk, which this machine does not let us mount");
        }
        // No file above 128 KB, which a plan is: for who writes it that is the same, and every machine can do it.
        again(&["sh", "-c", "trap '' XFSZ; ulimit -f 256; exec \"$0\" inside \"$1\""]);
    }

    /// Runs this program in a folder of its own, with a command around it.
    fn again(around: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(around[0]);
        command.args(&around[1..]).arg(std::env::current_exe().unwrap()).arg(folder.path());
        let status = command.env("TMPDIR", folder.path()).status().unwrap();
        assert!(status.success(), "{around:?}: {status}");
    }

    fn inside(disk: &Path) {
        let model = Arc::new(Model::open(DIGITS).unwrap());
        let requests = Samples::draw(&model, None, 0, 20).unwrap().requests;
        let mut ours = Cpu.session(&model, &LoadOptions::default()).unwrap();
        let right: Vec<Prediction> = requests.iter().map(|r| ours.predict(r).unwrap()).collect();
        drop(ours);
        let cache = disk.join("cache");
        let store = Store::open(&cache, Options::default()).unwrap();
        let process = Arc::new(AtomicI32::new(0));
        let isolated = isolated(&process);
        let restarts = isolated.clone();
        let options = ModelOptions {
            chain: vec![Candidate::new(isolated), Candidate::new(Cpu)],
            load: LoadOptions { cache: Some(store.clone()), threads: 1, ..LoadOptions::default() },
            standby: true,
            deadline: Some(LONG),
            breaker: BreakerOptions { cooldown: Duration::from_millis(1), ..BreakerOptions::default() },
            ..ModelOptions::default()
        };
        let filler = fill(disk);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let manager = Manager::start();
            let served = manager.load("digits", model, options).await.unwrap();
            for backend in served.status().backends {
                assert_eq!(backend.loaded.unwrap().plan, PlanOrigin::Compiled, "there is no room to keep it");
            }
            for third in 0..3 {
                match third {
                    // Room, so that plans are kept; and none again, when what was kept is lost.
                    1 => filler.iter().for_each(|file| fs::remove_file(file).unwrap()),
                    2 => {
                        store.clear().unwrap();
                        fill(disk);
                    }
                    _ => {}
                }
                ask(&served, &process, &requests, &right).await;
                let kept = !store.list().unwrap().is_empty();
                assert_eq!(kept, third == 1 && filler.is_some(), "a plan is kept where there is room");
            }
            manager.drain(LONG).await;
        });
        let left = fs::read_dir(&cache)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .filter(|n| n.to_string_lossy().ends_with(".tmp"));
        assert_eq!(left.count(), 0, "half a file is left");
        let deaths = CALLS / KILL_EVERY;
        assert!(restarts.restarts() as usize >= deaths / 2, "{} restarts", restarts.restarts());
        println!(
            "{CALLS} calls were answered, and {deaths} workers killed, with {}",
            match filler {
                Some(_) => "a disk that is full, has room, and is full again",
                None => "files of 128 KB at most",
            }
        );
    }

    fn isolated(process: &Arc<AtomicI32>) -> Isolated {
        let process = Arc::clone(process);
        let observer = move |event: &WorkerEvent<'_>| {
            if let WorkerEvent::Started { process: id, .. } = event {
                process.store(i32::try_from(*id).unwrap(), Ordering::Relaxed);
            }
        };
        let restarts = RestartPolicy { limit: 3, pause: Duration::ZERO, longest_pause: Duration::ZERO };
        // What a program ignores, its children ignore, too, but not under QEMU.
        let worker = "trap '' XFSZ; exec \"$0\" worker";
        let this = std::env::current_exe().unwrap();
        let command = Launch::new("/bin/sh", [OsStr::new("-c"), OsStr::new(worker), this.as_os_str()]);
        Isolated::new(
            Arc::new(Cpu),
            Process { restarts, observer: Some(Arc::new(observer)), ..Process::new(command) },
        )
    }

    /// Leaves no room for a plan on the disk, if it has an end.
    fn fill(disk: &Path) -> Option<PathBuf> {
        const ROOM: u64 = 24 << 10;
        let stat = rustix::fs::statvfs(disk).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        if free > 4 << 20 {
            return None;
        }
        let path = disk.join("filler");
        fs::write(&path, vec![1; (free - ROOM) as usize]).unwrap();
        Some(path)
    }

    async fn ask(
        served: &ModelHandle,
        process: &AtomicI32,
        requests: &[InferenceRequest],
        right: &[Prediction],
    ) {
        for i in 0..CALLS / 3 {
            if i % KILL_EVERY == KILL_EVERY - 1
                && let Some(process) = Pid::from_raw(process.load(Ordering::Relaxed))
            {
                // It may have ended.
                let _ = kill_process(process, Signal::KILL);
            }
            let call = Call {
                deadline: Some(Instant::now() + LONG),
                ..Call::from(requests[i % requests.len()].clone())
            };
            let reply = served.predict(call).await.unwrap_or_else(|e| panic!("call {i}: {e:?}"));
            assert_eq!(reply.predictions, [right[i % right.len()].clone()], "call {i}");
        }
    }
}

fn main() {
    #[cfg(target_os = "linux")]
    on_linux::main();
}
