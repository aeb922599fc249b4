//! A cache of compiled models. Core ML's compiler takes seconds to minutes, and gives the same result each time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use milwright_cache::{Folder, FolderError, Key, KeyBuilder, Meta, Origin, Store, Wait};
use tempfile::TempDir;

use crate::{Cancel, ComputeUnits, Error, ErrorKind, Model, PlanOrigin, Result};

/// A cache of compiled models (`.mlmodelc` folders), keyed by everything that they depend on. If several processes
/// need the same model, one compiles and the others wait. A cache entry is complete and is verified at each hit. When
/// the cache is full, the least recently used entries are evicted.
///
/// The caller chooses the compiler: Core ML's own, or [`Model::compile_to`].
///
/// ```
/// # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
/// use milwright::{CompileOptions, CompiledModels, Model, PlanOrigin, cache};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let store = cache::Store::open(folder.path(), cache::Options::default()).unwrap();
/// let models = CompiledModels::new(Some(store));
/// let model = Model::open(format!("{root}examples/digits.mlpackage"))?;
/// let options = CompileOptions { compiler: "milwright 1".into(), ..CompileOptions::default() };
///
/// let compiled = models.compiled(&model, &options, |path| model.compile_to(path))?;
/// assert_eq!(compiled.origin(), &PlanOrigin::Compiled);
/// assert!(models.is_cached(&model, &options));
/// assert!(compiled.path().join("model.mil").is_file());
/// # Ok::<(), milwright::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CompiledModels {
    store: Option<Store>,
}

/// What a compiled model depends on, besides the model itself.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// The hardware that the model is compiled for.
    pub compute_units: ComputeUnits,
    /// The operating system with its build, such as `Version 15.5 (Build 24F74)`: each build has its own compiler.
    pub system: String,
    /// The machine, such as `Mac16,1`.
    pub device: String,
    /// The compiler, with its version.
    pub compiler: String,
    /// All other options of the compiler, by name.
    pub others: Vec<(String, String)>,
    /// How long to wait for another process that compiles the same model, before compiling it here as well; `None`
    /// uses the [store's](milwright_cache::Options::wait) timeout.
    pub wait: Option<Duration>,
    /// Cancels the wait for another process. The `compile` closure must check the flag itself.
    pub cancel: Cancel,
}

/// A compiled model on disk. Its folder is not removed or evicted while this value lives.
#[derive(Debug)]
pub struct CompiledModel {
    place: Place,
    origin: PlanOrigin,
}

#[derive(Debug)]
enum Place {
    Kept(Box<Folder>),
    /// There is no cache, or it cannot be used.
    Temporary(TempDir),
}

/// The folder's name inside a cache entry. Equal models have equal keys, whatever their file names are.
const NAME: &str = "model.mlmodelc";

impl CompiledModels {
    /// Compiled models in this cache. Without a cache, every model is compiled anew, to a temporary folder.
    pub fn new(store: Option<Store>) -> CompiledModels {
        CompiledModels { store }
    }

    /// Returns whether the cache has an entry for a model. The entry may still turn out to be damaged, and is then
    /// compiled again.
    pub fn is_cached(&self, model: &Model, options: &CompileOptions) -> bool {
        self.store.as_ref().is_some_and(|store| store.contains(&options.key(model)))
    }

    /// Compiles a model into the cache unless it is there, and returns the origin of the entry.
    ///
    /// # Errors
    /// As for [`compiled`](CompiledModels::compiled); or there is no cache, or no room in it.
    pub fn prewarm(
        &self,
        model: &Model,
        options: &CompileOptions,
        compile: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PlanOrigin> {
        if self.store.is_none() {
            return Err(Error::invalid("there is no cache to keep compiled models in"));
        }
        let compiled = self.compiled(model, options, compile)?;
        match compiled.place {
            Place::Kept(folder) => folder.unstored.map_or(Ok(compiled.origin), |error| Err(error.into())),
            Place::Temporary(_) => Err(Error::invalid("the cache cannot be used; the log says why")),
        }
    }

    /// Returns the compiled form of a model, from the cache or compiled now. `compile` gets a path that does not exist
    /// yet; its parent does.
    ///
    /// # Errors
    /// `compile` fails; the wait for another process is cancelled; or no temporary folder can be created. If the cache
    /// fails, this only logs a warning.
    pub fn compiled(
        &self,
        model: &Model,
        options: &CompileOptions,
        compile: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<CompiledModel> {
        let Some(store) = &self.store else { return temporary(compile) };
        let stop = || options.cancel.is_cancelled();
        let wait = Wait { timeout: options.wait.unwrap_or(store.options().wait), stop: Some(&stop) };
        let name = model.path().file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut compile = Some(compile);
        let build = |path: &Path| compile.take().map_or(Ok(()), |compile| compile(path));
        match store.folder_or_create(&options.key(model), &Meta::new("mlmodelc", &name), NAME, wait, build) {
            Ok(folder) => {
                if let Some(error) = &folder.unstored {
                    tracing::warn!("the compiled model could not be kept: {error}");
                }
                let origin = match &folder.origin {
                    Origin::Hit => PlanOrigin::Cached,
                    Origin::Built => PlanOrigin::Compiled,
                    Origin::Rebuilt(fault) => {
                        tracing::warn!(
                            "the compiled form of {name} was unusable ({fault}): it was compiled again"
                        );
                        PlanOrigin::Rebuilt(fault.to_string())
                    }
                };
                Ok(CompiledModel { place: Place::Kept(Box::new(folder)), origin })
            }
            Err(FolderError::Build(error)) => Err(error),
            Err(FolderError::Stopped) => options.cancel.check().and_then(|()| Err(Error::invalid("stopped"))),
            Err(FolderError::Store(error)) => {
                tracing::warn!("compiling without the cache: {error}");
                match compile {
                    Some(compile) => temporary(compile),
                    None => Err(error.into()),
                }
            }
        }
    }

    /// Compiles a model as [`compiled`](CompiledModels::compiled) does, and loads it with `load`. If a cached model
    /// fails to load, it is compiled again, once, with a warning; unless the error does not concern the model, such as
    /// a cancellation.
    ///
    /// # Errors
    /// As for `compiled`; or `load` fails for a model that was just compiled.
    pub fn load<T>(
        &self,
        model: &Model,
        options: &CompileOptions,
        mut compile: impl FnMut(&Path) -> Result<()>,
        mut load: impl FnMut(&Path) -> Result<T>,
    ) -> Result<(T, CompiledModel)> {
        let first = match self.compiled(model, options, &mut compile) {
            // The disk of the cache may be full; the temporary folder may have room.
            Err(error) if error.kind() == ErrorKind::Io && self.store.is_some() => {
                tracing::warn!("compiling without the cache: {error}");
                temporary(&mut compile)?
            }
            first => first?,
        };
        let error = match load(&first.path()) {
            Ok(loaded) => return Ok((loaded, first)),
            // The compiled model is not the cause.
            Err(error) if is_innocent(error.kind()) => return Err(error),
            Err(error) => error,
        };
        let cached = first.origin == PlanOrigin::Cached;
        let gone = self.discard(first);
        if !cached {
            return Err(error);
        }
        tracing::warn!("a compiled model of the cache does not load ({error}): it is compiled again");
        let mut again = if gone {
            self.compiled(model, options, &mut compile)?
        } else {
            // Another process uses the entry, perhaps without trouble; or the cache cannot be written.
            temporary(&mut compile)?
        };
        again.origin = PlanOrigin::Rebuilt(error.to_string());
        match load(&again.path()) {
            Ok(loaded) => Ok((loaded, again)),
            Err(error) => {
                self.discard(again);
                Err(error)
            }
        }
    }

    /// Discards a cache entry. Returns whether it can no longer be found.
    fn discard(&self, compiled: CompiledModel) -> bool {
        match (compiled.place, &self.store) {
            (Place::Kept(folder), Some(store)) => store.discard(*folder).unwrap_or_else(|error| {
                tracing::warn!("a compiled model that does not load stays in the cache: {error}");
                false
            }),
            _ => true,
        }
    }
}

/// Whether an error does not concern the compiled model that was loaded.
fn is_innocent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Cancelled | ErrorKind::DeadlineExceeded | ErrorKind::InvalidInput | ErrorKind::Unavailable
    )
}

fn temporary(compile: impl FnOnce(&Path) -> Result<()>) -> Result<CompiledModel> {
    let folder =
        tempfile::tempdir().map_err(|e| Error::io("make a temporary folder for", Path::new(NAME), e))?;
    compile(&folder.path().join(NAME))?;
    Ok(CompiledModel { place: Place::Temporary(folder), origin: PlanOrigin::Compiled })
}

impl CompiledModel {
    /// The `.mlmodelc` folder. A cache entry keeps its path from hit to hit, because Core ML caches more data by path.
    pub fn path(&self) -> PathBuf {
        match &self.place {
            Place::Kept(folder) => folder.path.clone(),
            Place::Temporary(folder) => folder.path().join(NAME),
        }
    }

    /// Whether it was compiled now, or came from the cache.
    pub fn origin(&self) -> &PlanOrigin {
        &self.origin
    }
}

impl CompileOptions {
    fn key(&self, model: &Model) -> Key {
        // The pattern names every field, so that a new field does not compile until it is in the key or left out on
        // purpose.
        let CompileOptions { compute_units, system, device, compiler, others, wait: _, cancel: _ } = self;
        let mut key = KeyBuilder::new("mlmodelc")
            .field("model", model.digest())
            .field("compute units", format!("{compute_units:?}"))
            .field("system", system)
            .field("device", device)
            .field("compiler", compiler);
        for (name, value) in others {
            key = key.field(name, value);
        }
        key.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");

    fn models(dir: &Path) -> CompiledModels {
        CompiledModels::new(Some(Store::open(dir, milwright_cache::Options::default()).unwrap()))
    }

    fn options() -> CompileOptions {
        CompileOptions { compiler: "milwright".into(), ..CompileOptions::default() }
    }

    #[test]
    fn what_does_not_load_is_compiled_again_once() {
        let dir = tempfile::tempdir().unwrap();
        let models = models(dir.path());
        let model = Model::open(DIGITS).unwrap();
        let compiled = Cell::new(0);
        let compile = |path: &Path| {
            compiled.set(compiled.get() + 1);
            model.compile_to(path)
        };
        let open = |path: &Path| Model::open(path);
        let (_, first) = models.load(&model, &options(), compile, open).unwrap();
        let path = first.path();
        drop(first);
        // Loads at the second attempt.
        let tries = Cell::new(0);
        let second_try = |path: &Path| {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                Err(Error::new(ErrorKind::Runtime, "error -14"))
            } else {
                Model::open(path)
            }
        };
        let (loaded, again) = models.load(&model, &options(), compile, second_try).unwrap();
        assert_eq!(again.origin(), &PlanOrigin::Rebuilt("error -14".into()));
        assert_eq!((again.path(), compiled.get()), (path.clone(), 2));
        assert_eq!(loaded.info(), model.info());
        drop(again);
        // Cancelled.
        let stopped = |_: &Path| -> Result<()> { Err(Error::new(ErrorKind::Cancelled, "cancelled")) };
        assert_eq!(
            models.load(&model, &options(), compile, stopped).unwrap_err().kind(),
            ErrorKind::Cancelled
        );
        assert!(models.is_cached(&model, &options()));
        // Never loads.
        let never = |_: &Path| -> Result<()> { Err(Error::new(ErrorKind::Runtime, "error -14")) };
        let error = models.load(&model, &options(), compile, never).unwrap_err();
        assert_eq!((error.to_string().as_str(), compiled.get()), ("error -14", 3));
        assert!(!models.is_cached(&model, &options()), "what does not load is not kept");
        // The entry is in use elsewhere: it stays, and the new model is temporary.
        let kept = models.compiled(&model, &options(), compile).unwrap();
        tries.set(0);
        let (_, temporary) = models.load(&model, &options(), compile, second_try).unwrap();
        assert_ne!(temporary.path(), path);
        assert!(kept.path().is_dir());
    }

    #[test]
    fn damage_is_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let models = models(dir.path());
        let model = Model::open(DIGITS).unwrap();
        let compile = |path: &Path| model.compile_to(path);
        let path = models.compiled(&model, &options(), compile).unwrap().path();
        fs::write(path.join("weights/weight.bin"), "damaged").unwrap();
        assert!(models.is_cached(&model, &options()), "that is only found by reading");
        let (loaded, compiled) = models.load(&model, &options(), compile, |path| Model::open(path)).unwrap();
        assert!(matches!(compiled.origin(), PlanOrigin::Rebuilt(_)), "{:?}", compiled.origin());
        assert_eq!(loaded.info(), model.info());
    }

    #[test]
    fn the_key_has_everything() {
        let model = Model::open(DIGITS).unwrap();
        let set = |change: fn(&mut CompileOptions)| {
            let mut options = options();
            change(&mut options);
            options.key(&model)
        };
        let keys = [
            set(|_| {}),
            set(|o| o.compute_units = ComputeUnits::CpuOnly),
            set(|o| o.system = "Version 15.5 (Build 24F74)".into()),
            set(|o| o.device = "Mac16,1".into()),
            set(|o| o.compiler = "milwright 2".into()),
            set(|o| o.others = vec![("function".into(), "decode".into())]),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(set(|_| {}), set(|o| o.wait = Some(Duration::ZERO)));
    }

    #[test]
    fn where_the_cache_has_no_room_it_is_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::open(DIGITS).unwrap();
        let compile = |path: &Path| match path.starts_with(dir.path()) {
            true => Err(Error::new(ErrorKind::Io, "the disk is full")),
            false => model.compile_to(path),
        };
        let open = |path: &Path| Model::open(path);
        let (loaded, compiled) = models(dir.path()).load(&model, &options(), compile, open).unwrap();
        assert!(!compiled.path().starts_with(dir.path()));
        assert_eq!(loaded.info(), model.info());
    }

    #[test]
    fn without_a_cache_it_is_temporary() {
        let model = Model::open(DIGITS).unwrap();
        let none = CompiledModels::new(None);
        let compiled = none.compiled(&model, &options(), |path| model.compile_to(path)).unwrap();
        let path = compiled.path();
        assert_eq!(Model::open(&path).unwrap().info(), model.info());
        drop(compiled);
        assert!(!path.exists());
        assert!(none.prewarm(&model, &options(), |_| unreachable!()).is_err());
        let failed = none.compiled(&model, &options(), |_| Err(Error::new(ErrorKind::Runtime, "no")));
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }
}
