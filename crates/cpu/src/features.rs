//! The CPU's features.

/// Returns the names of this machine's CPU features, of those that a plan's fingerprint covers.
pub fn names() -> Vec<&'static str> {
    #[allow(unused_mut, reason = "not every architecture has features to find")]
    let mut names = Vec::new();
    macro_rules! detect {
        ($detect:ident: $($name:tt)*) => {
            $(if std::arch::$detect!($name) { names.push($name); })*
        };
    }
    #[cfg(target_arch = "x86_64")]
    detect!(is_x86_feature_detected:
        "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni" "avx512bf16" "avx512fp16");
    if crate::simd::tiles::Tiles::detect().is_some() {
        names.push("amx");
    }
    #[cfg(target_arch = "aarch64")]
    detect!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16");
    names
}
