//! With the feature `swift` and for Apple's systems: compiles `swift/MilwrightSwift.swift` into a static library.
//!
//! `swiftc` is Xcode's, or what `SWIFTC` names. Elsewhere there is nothing to do: `milwright_swift_standin`, which the
//! scripts in `scripts/apple` set, says that a stand-in is linked.

#![expect(clippy::disallowed_methods, reason = "Cargo tells build scripts by the environment")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest systems on which the concurrency of Swift needs no library of its own.
const MACOS: &str = "13.0";
const IOS: &str = "16.0";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(swift_linked, milwright_swift_standin, milwright_swift_compiled)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=swift");
    for name in ["SWIFTC", "SDKROOT", "MACOSX_DEPLOYMENT_TARGET", "IPHONEOS_DEPLOYMENT_TARGET"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_SWIFT").is_none() {
        return;
    }
    let standin = env::var_os("CARGO_CFG_MILWRIGHT_SWIFT_STANDIN").is_some();
    if standin || var("CARGO_CFG_TARGET_VENDOR") == "apple" {
        println!("cargo::rustc-cfg=swift_linked");
    }
    if standin || var("CARGO_CFG_TARGET_VENDOR") != "apple" {
        return;
    }
    if env::var_os("SWIFTC").is_none() && !var("HOST").contains("apple") {
        println!(
            "cargo::warning=there is no swiftc for Apple's systems here: this can be checked, but not linked"
        );
        return;
    }
    compile(&Target::new());
}

/// What Swift calls the target.
struct Target {
    triple: String,
    sdk: &'static str,
}

impl Target {
    fn new() -> Target {
        let arch = match var("CARGO_CFG_TARGET_ARCH").as_str() {
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let oldest = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let simulator = var("TARGET").ends_with("-sim") || var("TARGET") == "x86_64-apple-ios";
        match (var("CARGO_CFG_TARGET_OS").as_str(), simulator) {
            ("macos", _) => {
                let version = oldest("MACOSX_DEPLOYMENT_TARGET", MACOS);
                Target { triple: format!("{arch}-apple-macosx{version}"), sdk: "macosx" }
            }
            ("ios", false) => {
                let version = oldest("IPHONEOS_DEPLOYMENT_TARGET", IOS);
                Target { triple: format!("{arch}-apple-ios{version}"), sdk: "iphoneos" }
            }
            ("ios", true) => {
                let version = oldest("IPHONEOS_DEPLOYMENT_TARGET", IOS);
                Target { triple: format!("{arch}-apple-ios{version}-simulator"), sdk: "iphonesimulator" }
            }
            (os, _) => panic!("the feature `swift` is for macOS and iOS, not for {os}"),
        }
    }
}

fn compile(target: &Target) {
    let source = Path::new(&var("CARGO_MANIFEST_DIR")).join("swift");
    let out = PathBuf::from(var("OUT_DIR"));
    let sdk = env::var("SDKROOT").unwrap_or_else(|_| xcrun(target, &["--show-sdk-path"]));
    let swiftc = env::var("SWIFTC").unwrap_or_else(|_| xcrun(target, &["--find", "swiftc"]));
    let status = Command::new(&swiftc)
        .args(["-emit-library", "-static", "-parse-as-library", "-O", "-g", "-swift-version", "5"])
        .args(["-module-name", "MilwrightSwift", "-target", &target.triple, "-sdk", &sdk, "-I"])
        .arg(&source)
        .arg("-o")
        .arg(out.join("libMilwrightSwift.a"))
        .arg(source.join("MilwrightSwift.swift"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{swiftc} failed: {status}"),
        Err(e) => panic!("{swiftc} cannot be run, which the feature `swift` needs: {e}"),
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=MilwrightSwift");
    // What the object file asks for by itself: Swift's libraries, of the system and of the compiler.
    println!("cargo::rustc-link-search=native={sdk}/usr/lib/swift");
    if let Some(toolchain) = Path::new(&swiftc).parent().and_then(Path::parent) {
        let libraries = toolchain.join("lib/swift").join(target.sdk);
        println!("cargo::rustc-link-search=native={}", libraries.display());
    }
    for framework in ["CoreML", "Foundation"] {
        println!("cargo::rustc-link-lib=framework={framework}");
    }
}

fn xcrun(target: &Target, arguments: &[&str]) -> String {
    let output = Command::new("xcrun").args(["--sdk", target.sdk]).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Ok(output) => panic!("xcrun failed: {}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => panic!("xcrun cannot be run, which the feature `swift` needs: {e}"),
    }
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
