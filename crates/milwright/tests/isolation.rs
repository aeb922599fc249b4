//! Sessions in worker processes that die, hang and are killed. This program is its own worker.
#![cfg_attr(unix, expect(clippy::print_stdout, reason = "a parent tells whom it started"))]
#![cfg_attr(
    unix,
    expect(clippy::disallowed_methods, reason = "a worker learns a folder from the environment")
)]

#[cfg(unix)]
mod on_unix {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use libtest_mimic::{Arguments, Failed, Trial};
    use milwright::{
        Availability, Backend, Cancel, Cpu, ErrorKind, InferenceRequest, Isolated, Launch, LoadOptions,
        Loaded, LoadedModel, Model, PredictOptions, Prediction, Process, RestartPolicy, Result, Samples,
        Session, State, Tensor, Unshared, WorkerEvent, npy, worker,
    };
    use rustix::process::{Pid, Signal, getpid, kill_process};

    const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");
    const DIGITS_X: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits_test_x.npy");
    /// For what must happen, on a machine however busy.
    const LONG: Duration = Duration::from_secs(120);

    pub fn main() {
        let args: Vec<String> = std::env::args().collect();
        if args.get(1).is_some_and(|a| a == "worker") {
            return work(&args[2]);
        }
        let tests: &[(&str, fn())] = &[
            ("the_same_numbers", the_same_numbers),
            ("every_kind_of_model", every_kind_of_model),
            ("errors_are_the_same", errors_are_the_same),
            ("a_death_costs_one_request", a_death_costs_one_request),
            ("a_request_may_be_tried_twice", a_request_may_be_tried_twice),
            ("many_deaths_in_a_row_end_it", many_deaths_in_a_row_end_it),
            ("there_is_a_pause_between_deaths", there_is_a_pause_between_deaths),
            ("ten_thousand_requests_and_a_hundred_deaths", ten_thousand_requests_and_a_hundred_deaths),
            ("killed_at_any_moment", killed_at_any_moment),
            ("a_hang_ends_at_the_deadline", a_hang_ends_at_the_deadline),
            ("a_slow_load_is_waited_for_in_turns", a_slow_load_is_waited_for_in_turns),
            ("cancelling_ends_a_request", cancelling_ends_a_request),
            (
                "a_cancelled_request_that_is_answered_costs_no_worker",
                a_cancelled_request_that_is_answered_costs_no_worker,
            ),
            ("a_lost_state_is_told", a_lost_state_is_told),
            ("the_state_of_a_caller_outlives_a_worker", the_state_of_a_caller_outlives_a_worker),
            ("a_model_that_changed_is_refused", a_model_that_changed_is_refused),
            ("what_cannot_be_isolated_is_told", what_cannot_be_isolated_is_told),
            ("the_worker_ends_with_the_parent", the_worker_ends_with_the_parent),
            #[cfg(feature = "manager")]
            ("a_manager_answers_whatever_workers_do", a_manager_answers_whatever_workers_do),
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

    fn work(mode: &str) {
        match mode {
            "plain" => worker::serve().unwrap(),
            // A parent that does nothing but have a worker that hangs.
            "parent" => {
                let mut session = isolated(process("faulty")).load_isolated(&digits(), &quick()).unwrap();
                println!("{}", session.process().unwrap());
                let _ = session.predict(&image(HANG));
            }
            mode => {
                let mode = mode.to_owned();
                // One panics as a part of the test.
                std::panic::set_hook(Box::new(|_| {}));
                worker::serve_with(&[Box::new(Faulty { mode })]).unwrap();
            }
        }
    }

    // What the first element of an input makes a faulty worker do.
    const DIE: f32 = -1001.0;
    const HANG: f32 = -1002.0;
    const PANIC: f32 = -1003.0;
    /// Says so with a file in the folder of [`GATE`], and waits for another one.
    const WAIT: f32 = -1004.0;
    const GATE: &str = "MILWRIGHT_TEST_GATE";

    /// The CPU engine with faults.
    struct Faulty {
        mode: String,
    }

    struct FaultySession {
        inner: Box<dyn Session>,
        mode: String,
        requests: Cell<u32>,
    }

    impl Backend for Faulty {
        fn name(&self) -> &'static str {
            "cpu"
        }

        fn availability(&self) -> Availability {
            Cpu.availability()
        }

        fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
            if self.mode == "slow" {
                std::thread::sleep(Duration::from_millis(300));
            }
            let (inner, mode) = (Cpu.load(model, options)?, self.mode.clone());
            Unshared::load(move || {
                let inner = Arc::clone(&inner).session()?;
                Ok(Box::new(FaultySession { inner, mode: mode.clone(), requests: Cell::new(0) }))
            })
        }
    }

    impl Session for FaultySession {
        fn predict_with(
            &mut self,
            request: &InferenceRequest,
            options: PredictOptions<'_>,
        ) -> Result<Prediction> {
            let n = self.requests.get() + 1;
            self.requests.set(n);
            match request.inputs().first().and_then(|(_, t)| t.to_f64().first().copied()).map(|x| x as f32) {
                Some(DIE) => die(),
                Some(HANG) => std::thread::sleep(Duration::from_secs(600)),
                Some(PANIC) => panic!("as asked for"),
                Some(WAIT) => {
                    let gate = PathBuf::from(std::env::var_os(GATE).unwrap());
                    std::fs::write(gate.join("waiting"), "").unwrap();
                    wait_for(&gate.join("go"));
                }
                _ => {}
            }
            match self.mode.as_str() {
                "every_100" if n == 100 => die(),
                "first" if n == 1 => die(),
                _ => {}
            }
            self.inner.predict_with(request, options)
        }

        fn new_state(&self) -> State {
            self.inner.new_state()
        }

        fn reset(&mut self) -> Result<()> {
            self.inner.reset()
        }

        fn loaded(&self) -> &Loaded {
            self.inner.loaded()
        }
    }

    fn wait_for(file: &Path) {
        while !file.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn die() {
        kill_process(getpid(), Signal::KILL).unwrap();
    }

    fn process(mode: &str) -> Process {
        let policy = RestartPolicy { limit: 3, pause: Duration::ZERO, longest_pause: Duration::ZERO };
        let command = Launch::new(std::env::current_exe().unwrap(), ["worker", mode]);
        Process { restarts: policy, ..Process::new(command) }
    }

    fn isolated(process: Process) -> Isolated {
        Isolated::new(Arc::new(Cpu), process)
    }

    fn quick() -> LoadOptions {
        LoadOptions { threads: 1, ..LoadOptions::default() }
    }

    fn digits() -> Arc<Model> {
        Arc::new(Model::open(DIGITS).unwrap())
    }

    /// The images of the test set.
    fn images() -> Vec<InferenceRequest> {
        let x = npy::read(DIGITS_X).unwrap();
        let image = |i: usize| {
            let bytes = x.shared_bytes().slice(i * 256..(i + 1) * 256);
            InferenceRequest::new()
                .input("image", Tensor::from_bytes(x.dtype(), &[1, 1, 8, 8], bytes).unwrap())
        };
        (0..x.shape()[0].min(50)).map(image).collect()
    }

    fn image(first: f32) -> InferenceRequest {
        let mut pixels = vec![0f32; 64];
        pixels[0] = first;
        InferenceRequest::new().input("image", Tensor::from_vec(&[1, 1, 8, 8], pixels).unwrap())
    }

    /// A running sum: whoever zeroes its state changes its outputs.
    fn sum(folder: &Path) -> Arc<Model> {
        let source = "program(1.3) {
    func main<ios18>(tensor<fp32, [2]> x, state<tensor<fp32, [2]>> total) {
        tensor<fp32, [2]> old = read_state(input = total);
        tensor<fp32, [2]> sum = add(x = old, y = x)[name = string(\"sum\")];
        write_state(input = total, data = sum);
    } -> (sum);
}";
        let path = folder.join("sum.mlmodel");
        write_model(source, &path);
        Arc::new(Model::open(path).unwrap())
    }

    fn write_model(source: &str, path: &Path) {
        use milwright_formats::proto::{self as pb, model};
        /// Small constants are written into the program.
        struct NoWeights;
        impl milwright_convert::ml_program::WeightSink for NoWeights {
            fn store(
                &mut self,
                _: milwright_formats::blob::BlobType,
                _: usize,
                _: &[u8],
            ) -> std::result::Result<pb::mil_spec::value::BlobFileValue, milwright_formats::Error>
            {
                unreachable!("the constants are small")
            }
        }
        let program = milwright_mil::verify(milwright_mil::text::parse(source).unwrap()).unwrap();
        let program = milwright_convert::ml_program::write(&program, &mut NoWeights).unwrap();
        let r#type = Some(model::Type::MlProgram(program));
        let model = pb::Model { specification_version: 9, r#type, ..Default::default() };
        milwright_formats::write_mlmodel(path, &model).unwrap();
    }

    fn x(values: [f32; 2]) -> InferenceRequest {
        InferenceRequest::new().input("x", Tensor::from_vec(&[2], values.to_vec()).unwrap())
    }

    fn values(prediction: &Prediction) -> Vec<f32> {
        prediction.outputs()[0].1.to_vec().unwrap()
    }

    fn in_ms(ms: u64) -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(ms))
    }

    fn kill(id: u32) {
        // It may be gone already.
        let _ = kill_process(Pid::from_raw(id as i32).unwrap(), Signal::KILL);
    }

    /// Whether a process is gone, or only waits for whoever inherited it to look.
    fn is_gone(id: u32) -> bool {
        match std::fs::read_to_string(format!("/proc/{id}/stat")) {
            Ok(stat) => stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
            Err(_) if cfg!(target_os = "linux") => true,
            Err(_) => rustix::process::test_kill_process(Pid::from_raw(id as i32).unwrap()).is_err(),
        }
    }

    fn wait_for_end(id: u32) {
        let start = Instant::now();
        while !is_gone(id) {
            assert!(start.elapsed() < LONG, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn the_same_numbers() {
        let model = digits();
        let mut ours = Cpu.session(&model, &quick()).unwrap();
        let mut theirs = isolated(process("plain")).load_isolated(&model, &quick()).unwrap();
        assert_eq!(theirs.loaded().backend, "cpu");
        assert_eq!(theirs.loaded().arena_bytes, ours.loaded().arena_bytes);
        let drawn = Samples::draw(&model, None, 0, 3).unwrap();
        let first = theirs.process();
        for request in images().iter().chain(&drawn.requests) {
            assert_eq!(theirs.predict(request).unwrap(), ours.predict(request).unwrap());
        }
        assert_eq!((theirs.process(), theirs.restarts()), (first, 0));
    }

    /// Neural networks, classifiers, pipelines: whatever there is.
    fn every_kind_of_model() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
        let models: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == "mlmodel")).collect();
        assert!(models.len() > 5);
        for file in models {
            let model = Arc::new(Model::open(&file).unwrap());
            let mut ours = Cpu.session(&model, &quick()).unwrap();
            let mut theirs = isolated(process("plain")).session(&model, &quick()).unwrap();
            let cases = std::fs::read(file.with_extension("json")).unwrap();
            let cases: Vec<serde_json::Value> = serde_json::from_slice(&cases).unwrap();
            assert!(!cases.is_empty());
            for case in cases {
                let inputs = case["inputs"].as_object().unwrap();
                let request = inputs.iter().fold(InferenceRequest::new(), |request, (name, value)| {
                    let shape = serde_json::from_value::<Vec<usize>>(value["shape"].clone()).unwrap();
                    let elements = serde_json::from_value::<Vec<f32>>(value["elements"].clone()).unwrap();
                    request.input(name, Tensor::from_vec(&shape, elements).unwrap())
                });
                assert_eq!(theirs.predict(&request).unwrap(), ours.predict(&request).unwrap(), "{file:?}");
            }
        }
    }

    fn errors_are_the_same() {
        let model = digits();
        let mut ours = Cpu.session(&model, &quick()).unwrap();
        let mut theirs = isolated(process("plain")).load_isolated(&model, &quick()).unwrap();
        let wrong_shape = InferenceRequest::new().input("image", Tensor::scalar(1f32));
        for request in [InferenceRequest::new(), wrong_shape, image(0.0).input("no", Tensor::scalar(1f32))] {
            let (a, b) = (theirs.predict(&request).unwrap_err(), ours.predict(&request).unwrap_err());
            assert_eq!((a.kind(), a.hint()), (b.kind(), b.hint()));
            // The worker has the absolute path.
            assert_eq!(a.to_string().rsplit(": ").next(), b.to_string().rsplit(": ").next());
        }
        assert_eq!(theirs.restarts(), 0);
        let options = LoadOptions { function: Some("none".into()), ..quick() };
        let error = isolated(process("plain")).session(&model, &options).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    fn a_death_costs_one_request() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let observer = Arc::new(move |event: &WorkerEvent<'_>| {
            told.lock().unwrap().push(match event {
                WorkerEvent::Started { restart, .. } => format!("started, restart: {restart}"),
                WorkerEvent::Died { how, state_lost, .. } => format!("{how}, state lost: {state_lost}"),
                event => format!("{event:?}"),
            });
        });
        let backend = isolated(Process { observer: Some(observer), ..process("faulty") });
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        let right = session.predict(&image(0.0)).unwrap();
        for (fault, told) in [(DIE, "signal 9 (SIGKILL)"), (PANIC, "exit code 101")] {
            let error = session.predict(&image(fault)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerDied);
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!(session.predict(&image(0.0)).unwrap(), right);
        }
        assert_eq!((session.restarts(), backend.restarts()), (2, 2));
        let expected = [
            "started, restart: false",
            "signal 9 (SIGKILL), state lost: false",
            "started, restart: true",
            "exit code 101, state lost: false",
            "started, restart: true",
        ];
        assert_eq!(*events.lock().unwrap(), expected);
    }

    fn a_request_may_be_tried_twice() {
        let backend = isolated(Process { retry: true, ..process("plain") });
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        let right = session.predict(&image(0.0)).unwrap();
        let dead = session.process().unwrap();
        kill(dead);
        wait_for_end(dead);
        assert_eq!(session.predict(&image(0.0)).unwrap(), right);
        assert_eq!(session.restarts(), 1);
        // Twice, not more often.
        let backend = isolated(Process { retry: true, ..process("faulty") });
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        assert_eq!(session.predict(&image(DIE)).unwrap_err().kind(), ErrorKind::WorkerDied);
        assert_eq!(session.restarts(), 1);
        session.predict(&image(0.0)).unwrap();
    }

    fn many_deaths_in_a_row_end_it() {
        let gave_up = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&gave_up);
        let observer = Arc::new(move |event: &WorkerEvent<'_>| {
            counter.fetch_add(u64::from(*event == WorkerEvent::GaveUp), Ordering::Relaxed);
        });
        let backend = isolated(Process { observer: Some(observer), ..process("first") });
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        for _ in 0..4 {
            assert_eq!(session.predict(&image(0.0)).unwrap_err().kind(), ErrorKind::WorkerDied);
        }
        let error = session.predict(&image(0.0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("4 worker processes died in a row"), "{error}");
        assert_eq!((session.restarts(), gave_up.load(Ordering::Relaxed)), (3, 1));
    }

    fn there_is_a_pause_between_deaths() {
        let pause = Duration::from_secs(3600);
        let restarts = RestartPolicy { limit: 3, pause, longest_pause: pause };
        let backend = isolated(Process { restarts, retry: true, ..process("first") });
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        // The second try died as well; the next worker has to wait.
        assert_eq!(session.predict(&image(0.0)).unwrap_err().kind(), ErrorKind::WorkerDied);
        let error = session.predict(&image(0.0)).unwrap_err();
        assert_eq!((error.kind(), session.restarts()), (ErrorKind::WorkerDied, 1));
        assert!(error.to_string().contains("the next one may start in"), "{error}");
    }

    /// Every request is answered once: with the right numbers, or with the error that its worker died.
    fn ten_thousand_requests_and_a_hundred_deaths() {
        const REQUESTS: usize = 10_000;
        let folder = tempfile::tempdir().unwrap();
        let store = milwright::cache::Store::open(folder.path(), Default::default()).unwrap();
        let options = LoadOptions { cache: Some(store), ..quick() };
        let model = digits();
        let images = images();
        let mut ours = Cpu.session(&model, &options).unwrap();
        let right: Vec<_> = images.iter().map(|r| ours.predict(r).unwrap()).collect();
        let mut session = isolated(process("every_100")).load_isolated(&model, &options).unwrap();
        let (mut died, mut answered) = (0, 0);
        let mut before = None;
        for i in 0..REQUESTS {
            match session.predict(&images[i % images.len()]) {
                Ok(prediction) => {
                    assert_eq!(prediction, right[i % images.len()], "request {i}");
                    answered += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WorkerDied, "{error}");
                    died += 1;
                }
            }
            if i == 1050 {
                before = Some((count("/proc/self/fd"), count("/proc/self/task"), children(), memory()));
            }
        }
        assert_eq!((died, answered), (REQUESTS / 100, REQUESTS - REQUESTS / 100));
        assert_eq!(session.restarts(), 99);
        // The last worker has just died, and its successor is not there yet.
        session.predict(&images[0]).unwrap();
        let (descriptors, threads, processes, bytes) = before.unwrap();
        assert_eq!((count("/proc/self/fd"), count("/proc/self/task")), (descriptors, threads));
        assert_eq!(children(), processes);
        assert!(memory() < bytes + (8 << 20), "{bytes} bytes at first, {} now", memory());
        let files = std::fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.len() == 1 && names[0].ends_with(".mwc"), "{names:?}");
    }

    /// Ten thousand calls, many at a time, of a manager whose first backend is in a worker: that is killed at every
    /// hundredth request and hangs, panics or dies on some inputs, while the files of its cache are broken, and then the
    /// cache as a whole. The second backend is the engine itself, so that every answer has to be right, and in time.
    #[cfg(feature = "manager")]
    fn a_manager_answers_whatever_workers_do() {
        use milwright::Candidate;
        use milwright::manager::{BreakerOptions, Call, Manager, ModelOptions};

        const CALLS: usize = 10_000;
        const CALLERS: usize = 16;
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let store = milwright::cache::Store::open(&cache, Default::default()).unwrap();
        let model = digits();
        let mut requests = images();
        requests.extend([image(HANG), image(PANIC), image(DIE)]);
        let mut ours = Cpu.session(&model, &quick()).unwrap();
        let right: Vec<_> = requests.iter().map(|r| ours.predict(r).unwrap()).collect();
        drop(ours);
        let before = (count("/proc/self/fd"), count("/proc/self/task"), children());

        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (first, second) = runtime.block_on(async {
            let options = ModelOptions {
                chain: vec![Candidate::new(isolated(process("every_100"))), Candidate::new(Cpu)],
                load: LoadOptions { cache: Some(store), ..quick() },
                deadline: Some(LONG),
                attempt: Some(Duration::from_millis(200)),
                breaker: BreakerOptions { cooldown: Duration::from_millis(20), ..BreakerOptions::default() },
                ..ModelOptions::default()
            };
            let manager = Manager::start();
            let handle = manager.load("digits", model, options).await.unwrap();
            let tallies = (0..CALLERS).map(|caller| {
                let (handle, requests, right, cache) = (handle.clone(), &requests, &right, &cache);
                async move {
                    let mut tally = (0, 0);
                    for i in (caller..CALLS).step_by(CALLERS) {
                        // Bad ones are rare, so that workers live to be killed at their hundredth request, too.
                        let at = if i % 150 == 7 { 50 + i / 150 % 3 } else { i % 50 };
                        match i {
                            _ if i == CALLS / 2 => {
                                // From here on it cannot be read or written.
                                std::fs::remove_dir_all(cache).unwrap();
                                std::fs::write(cache, "no folder").unwrap();
                            }
                            _ if i % 500 == 3 && i < CALLS / 2 => spoil(cache),
                            _ => {}
                        }
                        let deadline = Instant::now() + LONG;
                        let call = Call { deadline: Some(deadline), ..Call::from(requests[at].clone()) };
                        let reply = handle.predict(call).await.unwrap_or_else(|e| panic!("call {i}: {e:?}"));
                        assert_eq!(reply.predictions, [right[at].clone()], "call {i}");
                        match reply.route.skipped.is_empty() {
                            true => tally.0 += 1,
                            false => tally.1 += 1,
                        }
                    }
                    tally
                }
            });
            let tallies: Vec<(usize, usize)> = join_all(tallies.collect()).await;
            manager.drain(LONG).await;
            tallies.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
        });
        drop(runtime);
        assert_eq!(first + second, CALLS);
        // The bad inputs and the deaths went on to the second one.
        assert!(second >= CALLS / 100 && first > CALLS / 2, "{first} by workers, {second} not");
        let start = Instant::now();
        while (count("/proc/self/fd"), count("/proc/self/task"), children()) != before {
            assert!(start.elapsed() < LONG, "something is left behind");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Changes a byte in every file of a cache. Who has mapped the old ones keeps them.
    #[cfg(feature = "manager")]
    fn spoil(cache: &Path) {
        for file in cache.read_dir().unwrap().map(|file| file.unwrap().path()) {
            // It may be on its way out.
            let Ok(mut bytes) = std::fs::read(&file) else { continue };
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 1;
            }
            let spoilt = cache.with_extension("spoilt");
            std::fs::write(&spoilt, bytes).unwrap();
            let _ = std::fs::rename(spoilt, file);
        }
    }

    /// Runs futures side by side.
    #[cfg(feature = "manager")]
    async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
        let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
        let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            for (future, done) in futures.iter_mut().zip(&mut done) {
                if done.is_none()
                    && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
                {
                    *done = Some(output);
                }
            }
            if done.iter().all(Option::is_some) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        done.into_iter().flatten().collect()
    }

    fn count(folder: &str) -> usize {
        Path::new(folder).read_dir().map_or(0, Iterator::count)
    }

    /// Child processes of this one, zombies included.
    fn children() -> usize {
        let me = std::process::id().to_string();
        let entries = Path::new("/proc").read_dir().into_iter().flatten().flatten();
        let parent = |path: PathBuf| {
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            Some(stat.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned())
        };
        entries.filter(|e| parent(e.path()).as_ref() == Some(&me)).count()
    }

    /// Resident bytes of this process.
    fn memory() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.map_or(0, |l| l.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
    }

    fn killed_at_any_moment() {
        let model = digits();
        let request = &images()[0];
        let backend = isolated(process("plain"));
        let mut session = backend.load_isolated(&model, &quick()).unwrap();
        let right = session.predict(request).unwrap();
        let (mut died, mut answered) = (0, 0);
        for round in 0u64..60 {
            let id = session.process().unwrap();
            // From before the request is sent to after it is answered.
            let pause = Duration::from_micros(round.wrapping_mul(0x9e37_79b9) % 400);
            let killer = std::thread::spawn(move || {
                std::thread::sleep(pause);
                kill(id);
            });
            loop {
                match session.predict(request) {
                    Ok(prediction) => {
                        assert_eq!(prediction, right);
                        answered += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WorkerDied, "{error}");
                        died += 1;
                        break;
                    }
                }
            }
            killer.join().unwrap();
            assert_eq!(session.predict(request).unwrap(), right);
        }
        assert_eq!((died, session.restarts()), (60, 60), "{answered} answered");
    }

    fn a_hang_ends_at_the_deadline() {
        let backend = isolated(Process { grace: Duration::ZERO, ..process("faulty") });
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        let hung = session.process().unwrap();
        let options = PredictOptions { deadline: in_ms(50), ..Default::default() };
        let error = session.predict_with(&image(HANG), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert!(is_gone(hung));
        session.predict(&image(0.0)).unwrap();
        assert_eq!(session.restarts(), 1);
        // A deadline that has passed costs no worker.
        let options = PredictOptions { deadline: Some(Instant::now()), ..Default::default() };
        let error = session.predict_with(&image(0.0), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert_eq!(session.restarts(), 1);
    }

    fn a_slow_load_is_waited_for_in_turns() {
        let backend = isolated(process("slow"));
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        kill(session.process().unwrap());
        assert_eq!(session.predict(&image(0.0)).unwrap_err().kind(), ErrorKind::WorkerDied);
        let mut late = 0;
        loop {
            let options = PredictOptions { deadline: in_ms(20), ..Default::default() };
            match session.predict_with(&image(0.0), options) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}"),
            }
            late += 1;
        }
        // It was one worker that loaded all the while.
        assert!(late > 0);
        assert_eq!(session.restarts(), 1);
        let never = Process { load_timeout: Duration::from_millis(20), ..process("slow") };
        let error = isolated(never).session(&digits(), &quick()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WorkerDied, "{error}");
    }

    fn cancelling_ends_a_request() {
        let backend = isolated(process("faulty"));
        let mut session = backend.load_isolated(&digits(), &quick()).unwrap();
        let cancel = Cancel::default();
        let options = PredictOptions { cancel: cancel.clone(), ..Default::default() };
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                cancel.cancel();
            });
            session.predict_with(&image(HANG), options).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        session.predict(&image(0.0)).unwrap();
        assert_eq!(session.restarts(), 1);
    }

    fn a_cancelled_request_that_is_answered_costs_no_worker() {
        let gate = tempfile::tempdir().unwrap();
        let mut process = Process { grace: LONG, ..process("faulty") };
        process.command.environment.push((GATE.into(), gate.path().into()));
        let mut session = isolated(process).load_isolated(&digits(), &quick()).unwrap();
        let cancel = Cancel::default();
        let options = PredictOptions { cancel: cancel.clone(), ..Default::default() };
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_for(&gate.path().join("waiting"));
                cancel.cancel();
                std::fs::write(gate.path().join("go"), "").unwrap();
            });
            session.predict_with(&image(WAIT), options).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        session.predict(&image(0.0)).unwrap();
        assert_eq!(session.restarts(), 0);
    }

    fn a_lost_state_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let model = sum(folder.path());
        let mut session =
            isolated(Process { retry: true, ..process("faulty") }).load_isolated(&model, &quick()).unwrap();
        // Nothing has been summed up yet, nothing is lost.
        assert_eq!(session.predict(&x([DIE, 0.0])).unwrap_err().kind(), ErrorKind::WorkerDied);
        assert_eq!(values(&session.predict(&x([1.0, 2.0])).unwrap()), [1.0, 2.0]);
        assert_eq!(values(&session.predict(&x([1.0, 2.0])).unwrap()), [2.0, 4.0]);
        let error = session.predict(&x([DIE, 0.0])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerDied);
        assert!(error.hint().unwrap().contains("states"), "{error:?}");
        for _ in 0..3 {
            assert_eq!(session.predict(&x([1.0, 2.0])).unwrap_err().kind(), ErrorKind::StateLost);
        }
        // A state of the caller's is another matter.
        let mut state = session.new_state();
        let options = PredictOptions { state: Some(&mut state), ..Default::default() };
        assert_eq!(values(&session.predict_with(&x([5.0, 6.0]), options).unwrap()), [5.0, 6.0]);
        session.reset().unwrap();
        assert_eq!(values(&session.predict(&x([1.0, 2.0])).unwrap()), [1.0, 2.0]);
        session.reset().unwrap();
        assert_eq!(values(&session.predict(&x([1.0, 2.0])).unwrap()), [1.0, 2.0]);
    }

    fn the_state_of_a_caller_outlives_a_worker() {
        let folder = tempfile::tempdir().unwrap();
        let model = sum(folder.path());
        let mut session = isolated(process("faulty")).load_isolated(&model, &quick()).unwrap();
        let (mut a, mut b) = (session.new_state(), session.new_state());
        assert_eq!(a.names(), ["total"]);
        let mut predict = |values: [f32; 2], state: &mut State| {
            let options = PredictOptions { state: Some(state), ..Default::default() };
            session.predict_with(&x(values), options)
        };
        predict([1.0, 2.0], &mut a).unwrap();
        predict([10.0, 20.0], &mut b).unwrap();
        assert_eq!(predict([DIE, 0.0], &mut a).unwrap_err().kind(), ErrorKind::WorkerDied);
        assert_eq!(values(&predict([1.0, 2.0], &mut a).unwrap()), [2.0, 4.0]);
        assert_eq!(values(&predict([10.0, 20.0], &mut b).unwrap()), [20.0, 40.0]);
        assert_eq!(b.read("total").unwrap().to_vec::<f32>().unwrap(), [20.0, 40.0]);
        // A state of another model.
        let mut other = State::default();
        assert_eq!(predict([1.0, 2.0], &mut other).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    fn a_model_that_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let model = sum(folder.path());
        let mut session = isolated(process("plain")).load_isolated(&model, &quick()).unwrap();
        let source = "program(1.3) {
    func main<ios18>(tensor<fp32, [2]> x) {
        tensor<fp32, [2]> sum = add(x = x, y = x)[name = string(\"sum\")];
    } -> (sum);
}";
        write_model(source, model.path());
        kill(session.process().unwrap());
        assert_eq!(session.predict(&x([1.0, 2.0])).unwrap_err().kind(), ErrorKind::WorkerDied);
        let error = session.predict(&x([1.0, 2.0])).unwrap_err();
        assert!(error.to_string().ends_with("the file has changed since it was opened"), "{error}");
        // It is not the request that is wrong: another backend may have the model still.
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    fn what_cannot_be_isolated_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(sum(folder.path()).path()).unwrap();
        let package = Model::from_bytes(bytes.into(), &BTreeMap::new()).unwrap();
        let error = isolated(process("plain")).session(&Arc::new(package), &quick()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let load = |command| isolated(Process::new(command)).session(&digits(), &quick()).err().unwrap();
        let no_args: [&str; 0] = [];
        assert_eq!(load(Launch::new("/no/such/program", no_args)).kind(), ErrorKind::Unavailable);
        let error = load(Launch::new("/bin/sh", ["-c", "exit 3"]));
        assert_eq!(error.kind(), ErrorKind::WorkerDied);
        assert!(error.to_string().contains("exit code 3"), "{error}");
    }

    fn the_worker_ends_with_the_parent() {
        let mut parent = Command::new(std::env::current_exe().unwrap());
        let mut parent = parent.args(["worker", "parent"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(parent.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let worker = line.trim().parse().unwrap();
        assert!(!is_gone(worker));
        parent.kill().unwrap();
        parent.wait().unwrap();
        wait_for_end(worker);
    }
}

fn main() {
    #[cfg(unix)]
    on_unix::main();
}
