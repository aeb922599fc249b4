//! Two models, many callers: two sessions each, a queue with priorities, a deadline for each call, and metrics.
//!
//! `cargo run --release -p milwright --example serve_many` shows some of the metrics and ends;
//! `cargo run --release -p milwright --example serve_many -- 127.0.0.1:9464` goes on, for Prometheus and
//! `curl http://127.0.0.1:9464/metrics`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milwright::manager::{Call, Manager, ModelOptions, Priority, ShadowOptions, WhenFull};
use milwright::telemetry::Exporter;
use milwright::{
    Candidate, Cpu, Error, ErrorKind, LoadOptions, Model, Optimizer, Quantization, Result, Samples,
};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build();
    runtime.map_err(|e| Error::new(ErrorKind::Io, e.to_string()))?.block_on(serve())
}

async fn serve() -> Result<()> {
    let exporter = Exporter::install()?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let original = Arc::new(Model::open(examples.join("digits.mlpackage"))?);
    let small = std::env::temp_dir().join("milwright-serve_many.mlpackage");
    Optimizer::new().quantization(Quantization::Int8).optimize(&original, Some(&small), &mut |_| {})?;

    let manager = Manager::start();
    let load = LoadOptions { threads: 1, ..LoadOptions::default() };
    // One call in ten is asked a second time, elsewhere, to compare. With Core ML around, that would be another backend.
    let shadow = ShadowOptions { candidate: Candidate::new(Cpu), rate: 0.1, snr_db: 60.0 };
    let options = ModelOptions { load, shadow: Some(shadow), sessions: 2, ..ModelOptions::default() };
    for (name, model) in [("digits", Arc::clone(&original)), ("small", Arc::new(Model::open(&small)?))] {
        let model = manager.load(name, model, options.clone()).await?;
        for backend in &model.status().absent {
            println!("{name}: not on {}: {}", backend.backend, backend.reason);
        }
    }

    let samples = Arc::new(Samples::draw(&original, None, 0, 32)?.requests);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64usize {
        let (manager, samples) = (manager.clone(), Arc::clone(&samples));
        callers.spawn(async move {
            let model = manager.model(["digits", "small"][caller % 2]).await?;
            for request in samples.iter() {
                let call = Call {
                    deadline: Some(Instant::now() + Duration::from_secs(1)),
                    priority: if caller < 8 { Priority::High } else { Priority::Normal },
                    when_full: WhenFull::Wait,
                    ..Call::from(request.clone())
                };
                model.predict(call).await?;
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done.map_err(|e| Error::new(ErrorKind::Runtime, e.to_string()))??;
    }
    for status in manager.list().await? {
        println!(
            "{}: {:?} by {}; shadow {:?}",
            status.name, status.phase, status.backends[0].name, status.shadow
        );
    }
    manager.drain(Duration::from_secs(10)).await;
    if let Some(address) = std::env::args().nth(1) {
        return listen(&address, &exporter).map_err(|e| Error::io("listen on", Path::new(&address), e));
    }
    println!("\nsome of the metrics:");
    let metrics = exporter.render();
    let is_short = |line: &&str| !line.contains("_bucket") && !line.starts_with('#') && !line.is_empty();
    metrics.lines().filter(is_short).for_each(|line| println!("{line}"));
    Ok(())
}

/// Answers Prometheus, one question after the other. A program with an HTTP server does it there.
fn listen(address: &str, exporter: &Exporter) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("\nthe metrics are at http://{}/metrics", listener.local_addr()?);
    for stream in listener.incoming() {
        // Who goes away early has no answer.
        let _ = stream.and_then(|stream| answer(stream, exporter));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, exporter: &Exporter) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut question = String::new();
    let mut lines = BufReader::new((&stream).take(8192));
    lines.read_line(&mut question)?;
    // The rest of it, up to the empty line: who has not been listened to may not listen.
    let mut rest = String::new();
    while lines.read_line(&mut rest)? > 2 {
        rest.clear();
    }
    let (status, body) = match question.starts_with("GET /metrics ") {
        true => ("200 OK", exporter.render()),
        false => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
    };
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
