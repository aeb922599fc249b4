//! Real processes: this program, started again with `worker MODE`.
#![cfg_attr(
    unix,
    expect(
        clippy::exit,
        clippy::print_stdout,
        reason = "a worker ends on purpose, and tells its parent whom it started"
    )
)]

#[cfg(unix)]
mod on_unix {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use libtest_mimic::{Arguments, Failed, Trial};
    use milwright_worker::{Error, Launch, Patience, Service, Worker, limits};
    use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

    const IDENTITY: &str = "test 1";
    /// For what must happen, on a machine however busy.
    const LONG: Duration = Duration::from_secs(60);
    /// Bytes of a blob for which there is no room.
    const LARGE: usize = 1 << 20;

    pub fn main() {
        let args: Vec<String> = std::env::args().collect();
        if args.get(1).is_some_and(|a| a == "worker") {
            return work(&args[2..]);
        }
        let tests: &[(&str, fn())] = &[
            ("echoes", echoes),
            ("a_death_is_told", a_death_is_told),
            ("a_hang_ends_at_the_deadline", a_hang_ends_at_the_deadline),
            ("waiting_does_not_kill", waiting_does_not_kill),
            ("stop_ends_a_call", stop_ends_a_call),
            ("garbage_is_refused", garbage_is_refused),
            ("what_is_no_worker_is_refused", what_is_no_worker_is_refused),
            ("it_ends_with_its_parent", it_ends_with_its_parent),
            ("too_much_is_refused_and_it_lives_on", too_much_is_refused_and_it_lives_on),
            ("without_room_it_lives_on", without_room_it_lives_on),
            ("nothing_is_left_over", nothing_is_left_over),
        ];
        let test = |&(name, run): &(&str, fn())| {
            Trial::test(name, move || {
                run();
                Ok::<(), Failed>(())
            })
        };
        // One after the other: one counts the descriptors of this process.
        let args = Arguments { test_threads: Some(1), ..Arguments::from_args() };
        libtest_mimic::run(&args, tests.iter().map(test).collect()).exit()
    }

    /// What a worker does, by its arguments.
    fn work(args: &[String]) {
        match args[0].as_str() {
            "echo" => serve(IDENTITY),
            "other" => serve("test 2"),
            "silent" => std::thread::sleep(Duration::from_secs(600)),
            "raw" => answer_with(&raw_answers()[args[1].parse::<usize>().unwrap()].1),
            "parent" => {
                let mut worker = start(&["echo"]);
                println!("{}", worker.id());
                let _ = worker.call(b"hang", &[], Patience::default());
            }
            "limited" => limited(),
            mode => panic!("{mode}"),
        }
    }

    fn serve(identity: &str) {
        let Ok(mut service) = Service::connect(identity) else { std::process::exit(7) };
        while let Some(mut request) = service.receive().unwrap() {
            let me = rustix::process::getpid();
            match &request.message[..] {
                b"kill" => kill_process(me, Signal::KILL).unwrap(),
                b"abort" => std::process::abort(),
                b"exit" => std::process::exit(3),
                b"hang" => std::thread::sleep(Duration::from_secs(600)),
                _ => {}
            }
            let mut blobs: Vec<Vec<u8>> =
                (0..request.blob_lens().len()).map(|n| request.blob(n, Vec::new()).unwrap()).collect();
            if request.message == b"grow" {
                blobs.push(vec![0; LARGE]);
            }
            let blobs: Vec<&[u8]> = blobs.iter().rev().map(Vec::as_slice).collect();
            let message: Vec<u8> = request.message.iter().rev().copied().collect();
            if service.reply(&message, &blobs).is_err() {
                service.reply(b"no room", &[]).unwrap();
            }
        }
    }

    /// Greets as it was greeted, waits for the request, and answers with these bytes.
    fn answer_with(bytes: &[u8]) {
        let mut stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
        let mut greeting = [0; 10 + limits::MAX_IDENTITY];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&greeting).unwrap();
        stream.read_exact(&mut [0; 17]).unwrap();
        stream.write_all(bytes).unwrap();
        // Until it is killed.
        let _ = stream.read(&mut [0]);
    }

    fn raw_answers() -> Vec<(&'static str, Vec<u8>)> {
        let frame = |number: u32, message: u32, blobs: u32| {
            let numbers = [number, message, blobs].map(u32::to_le_bytes);
            [b"mww1", &numbers[0][..], &numbers[1], &numbers[2]].concat()
        };
        let one_blob = |len: u64| [&frame(1, 0, 1)[..], &len.to_le_bytes()].concat();
        vec![
            ("begin", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
            ("claims", frame(1, u32::MAX, 0)),
            ("claims", frame(1, 0, u32::MAX)),
            ("the answer to request 2", frame(2, 0, 0)),
            ("larger than memory", one_blob(u64::MAX)),
            ("not in shared memory", one_blob(limits::MAX_MEMORY)),
            ("not in shared memory", one_blob(1 << 20)),
        ]
    }

    fn launch(args: &[&str]) -> Launch {
        let args = ["worker"].iter().chain(args).copied();
        Launch::new(std::env::current_exe().unwrap(), args)
    }

    fn start(args: &[&str]) -> Worker {
        Worker::start(&launch(args), IDENTITY).unwrap()
    }

    fn in_ms(ms: u64) -> Patience<'static> {
        Patience { deadline: Some(Instant::now() + Duration::from_millis(ms)), stop: None }
    }

    /// Whether a process is gone, or only waits for whoever inherited it to look.
    fn is_gone(id: u32) -> bool {
        match std::fs::read_to_string(format!("/proc/{id}/stat")) {
            Ok(stat) => stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
            Err(_) if cfg!(target_os = "linux") => true,
            Err(_) => rustix::process::test_kill_process(Pid::from_raw(id as i32).unwrap()).is_err(),
        }
    }

    fn echoes() {
        let mut worker = start(&["echo"]);
        let id = worker.id();
        for len in [0, 1, 100, 70_000, 5_000_000, 3] {
            let a: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
            let mut reply = worker.call(b"abc", &[&a, b"second"], Patience::default()).unwrap();
            assert_eq!(reply.message, b"cba");
            assert_eq!(reply.blob_lens(), [6, len]);
            assert_eq!(reply.blob(0, Vec::new()).unwrap(), b"second");
            assert_eq!(reply.blob(1, Vec::new()).unwrap(), a);
        }
        assert_eq!(worker.id(), id);
        drop(worker);
        assert!(is_gone(id));
    }

    fn a_death_is_told() {
        for (how, told) in [("kill", "signal 9 (SIGKILL)"), ("abort", "SIGABRT"), ("exit", "exit code 3")] {
            let mut worker = start(&["echo"]);
            match worker.call(how.as_bytes(), &[b"x"], Patience::default()) {
                Err(Error::Died(text)) => assert!(text.contains(told), "{text}"),
                other => panic!("{how}: {:?}", other.err()),
            }
            assert!(!worker.is_alive());
            assert!(matches!(worker.call(b"", &[], Patience::default()), Err(Error::Died(_))));
        }
    }

    fn a_hang_ends_at_the_deadline() {
        let mut worker = start(&["echo"]);
        assert!(matches!(worker.call(b"hang", &[], in_ms(20)), Err(Error::Deadline)));
        assert!(is_gone(worker.id()));
        let mut worker = start(&["silent"]);
        assert!(matches!(worker.call(b"x", &[], in_ms(20)), Err(Error::Deadline)));
        assert!(is_gone(worker.id()));
    }

    fn waiting_does_not_kill() {
        let mut worker = start(&["silent"]);
        assert!(matches!(worker.wait(in_ms(5)), Err(Error::Deadline)));
        assert!(worker.is_alive());
        let mut worker = start(&["echo"]);
        worker.call(b"hello", &[], Patience::default()).unwrap();
        assert!(matches!(worker.wait(in_ms(5)), Err(Error::Deadline)));
        worker.send(b"ab", &[], Patience::default()).unwrap();
        worker.wait(Patience::default()).unwrap();
        assert_eq!(worker.receive(Patience::default()).unwrap().message, b"ba");
    }

    fn stop_ends_a_call() {
        let mut worker = start(&["echo"]);
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 2;
        let patience = Patience { deadline: None, stop: Some(&stop) };
        assert!(matches!(worker.call(b"hang", &[], patience), Err(Error::Stopped)));
        assert!(is_gone(worker.id()));
    }

    fn garbage_is_refused() {
        for (n, (told, _)) in raw_answers().iter().enumerate() {
            let mut worker = start(&["raw", &n.to_string()]);
            let answer = worker.call(b"x", &[], Patience::default());
            let error = answer.and_then(|mut reply| reply.blob(0, Vec::new()).map(drop)).expect_err(told);
            assert!(matches!(&error, Error::Garbage(text) if text.contains(told)), "{n}: {error}");
            assert!(is_gone(worker.id()), "{n}");
        }
    }

    fn what_is_no_worker_is_refused() {
        let start = |launch| match Worker::start(&launch, IDENTITY) {
            Ok(mut worker) => worker.call(b"x", &[], Patience::default()).map(drop).unwrap_err(),
            Err(error) => error,
        };
        let no_args: [&str; 0] = [];
        assert!(matches!(start(Launch::new("/no/such/program", no_args)), Error::Start { .. }));
        assert!(
            matches!(start(Launch::new("/bin/sh", ["-c", "exit 4"])), Error::Died(how) if how == "exit code 4")
        );
        let error = start(launch(&["other"]));
        assert_eq!(error.to_string(), "the worker is `test 2`, not `test 1`");
        // And a worker that nobody calls.
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let status = alone.args(["worker", "echo"]).stdin(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(7));
    }

    fn it_ends_with_its_parent() {
        let mut parent = Command::new(std::env::current_exe().unwrap());
        let mut parent = parent.args(["worker", "parent"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(parent.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let worker: u32 = line.trim().parse().unwrap();
        assert!(!is_gone(worker));
        parent.kill().unwrap();
        parent.wait().unwrap();
        let start = Instant::now();
        while !is_gone(worker) {
            assert!(start.elapsed() < LONG, "it outlives its parent");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn too_much_is_refused_and_it_lives_on() {
        let mut worker = start(&["echo"]);
        let large = vec![0; limits::MAX_MESSAGE + 1];
        assert!(matches!(worker.call(&large, &[], Patience::default()), Err(Error::TooLarge(_))));
        assert_eq!(worker.call(b"ab", &[], Patience::default()).unwrap().message, b"ba");
    }

    /// A parent and its worker whose files, shared memory included, may not be as large as they want.
    fn limited() {
        let limit = Rlimit { current: Some(LARGE as u64 / 2), maximum: None };
        setrlimit(Resource::Fsize, limit).unwrap();
        let mut worker = start(&["echo"]);
        for _ in 0..3 {
            let refused = worker.send(b"ab", &[&vec![0; LARGE]], Patience::default());
            assert!(matches!(refused, Err(Error::Memory(_))), "{refused:?}");
            assert_eq!(worker.call(b"grow", &[], Patience::default()).unwrap().message, b"no room");
            assert_eq!(worker.call(b"ab", &[b"cd"], Patience::default()).unwrap().message, b"ba");
        }
    }

    fn without_room_it_lives_on() {
        let mut parent = Command::new(std::env::current_exe().unwrap());
        assert!(parent.args(["worker", "limited"]).status().unwrap().success());
    }

    /// No descriptor, no process, however a worker ended.
    fn nothing_is_left_over() {
        let count = |folder: &str| Path::new(folder).read_dir().map_or(0, Iterator::count);
        let mut ids = Vec::new();
        let mut before = 0;
        for round in 0..60 {
            if round == 3 {
                before = count("/proc/self/fd");
            }
            let mut worker = start(&["echo"]);
            ids.push(worker.id());
            let blob = vec![1; 100_000];
            let _ = worker.call([&b"kill"[..], b"exit", b"x"][round % 3], &[&blob], Patience::default());
        }
        assert_eq!(count("/proc/self/fd"), before);
        for id in ids {
            assert!(!Path::new(&format!("/proc/{id}")).exists(), "a zombie is left");
        }
    }
}

fn main() {
    #[cfg(unix)]
    on_unix::main();
}
