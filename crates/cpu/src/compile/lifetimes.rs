//! When each value in the arena is alive.
//!
//! The steps of the body and of nested blocks are numbered in the order in which they stand; a loop and a branch end
//! with a number of their own. A value from outside that a loop reads lives until the loop ends, because the next
//! iteration reads it again. The variables of a loop live in one place as long as the loop runs.

use std::collections::HashMap;

use crate::plan::{Block, Place, Step, Value, ValueNo, Work};

/// When each value is alive.
pub(super) struct Lifetimes<'a> {
    values: &'a [Value],
    aliases: &'a HashMap<ValueNo, ValueNo>,
    /// The number of each step, in the order of [`each`].
    pub numbers: Vec<usize>,
    /// The numbers at which each value is used first and last.
    pub spans: HashMap<ValueNo, (usize, usize)>,
    /// The values, in the order of their first use.
    pub order: Vec<ValueNo>,
    /// The variables of loops.
    pub variables: HashMap<ValueNo, Variable>,
    /// The number after the last.
    pub end: usize,
}

/// A variable of a loop.
pub(super) struct Variable {
    /// The number at which the body uses its old value last.
    pub last: usize,
    /// The value that the body gives it for the next iteration.
    pub next: ValueNo,
}

impl<'a> Lifetimes<'a> {
    pub fn of(steps: &[Step], values: &'a [Value], aliases: &'a HashMap<ValueNo, ValueNo>) -> Lifetimes<'a> {
        let mut lifetimes = Lifetimes {
            values,
            aliases,
            numbers: Vec::new(),
            spans: HashMap::new(),
            order: Vec::new(),
            variables: HashMap::new(),
            end: 0,
        };
        lifetimes.steps(steps);
        lifetimes
    }

    /// Notes that a value is used at a number.
    pub fn touch(&mut self, values: &[ValueNo], number: usize) {
        for &v in values {
            let v = root(self.aliases, v);
            if matches!(self.values[v].place, Place::Arena(_)) {
                self.spans.entry(v).and_modify(|s| s.1 = s.1.max(number)).or_insert_with(|| {
                    self.order.push(v);
                    (number, number)
                });
            }
        }
    }

    fn next(&mut self) -> usize {
        self.end += 1;
        self.end - 1
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            let start = self.next();
            self.numbers.push(start);
            match &step.work {
                Work::While { init, cond, body, outputs } => {
                    self.touch(init, start);
                    self.touch(outputs, start);
                    self.block(cond);
                    self.steps(&body.steps);
                    for (&v, &next) in outputs.iter().zip(&body.outputs) {
                        // The body may also return an old value, as the next value of another variable.
                        let returned = body.outputs.iter().any(|&o| root(self.aliases, o) == v);
                        if let Some(&(_, last)) = self.spans.get(&v).filter(|_| !returned) {
                            self.variables.insert(v, Variable { last, next });
                        }
                    }
                    let end = self.next();
                    self.touch(&body.outputs, end);
                    self.touch(outputs, end);
                    for span in self.spans.values_mut().filter(|s| s.0 < start && s.1 >= start) {
                        span.1 = end;
                    }
                }
                Work::Cond { pred, branches, outputs } => {
                    self.touch(&[*pred], start);
                    self.touch(outputs, start);
                    branches.iter().for_each(|b| self.block(b));
                    let end = self.next();
                    self.touch(outputs, end);
                }
                work => self.touch(&work.values(), start),
            }
        }
    }

    /// A block, and the copies of its results that follow it.
    fn block(&mut self, block: &Block) {
        self.steps(&block.steps);
        let end = self.next();
        self.touch(&block.outputs, end);
    }
}

/// The value whose place an alias shares.
pub(super) fn root(aliases: &HashMap<ValueNo, ValueNo>, mut v: ValueNo) -> ValueNo {
    while let Some(&of) = aliases.get(&v) {
        v = of;
    }
    v
}

/// All steps, those of nested blocks after the one that they are in.
pub(super) fn each<'s>(steps: &'s [Step], f: &mut impl FnMut(&'s Step)) {
    for step in steps {
        f(step);
        match &step.work {
            Work::While { cond, body, .. } => [cond, body].into_iter().for_each(|b| each(&b.steps, f)),
            Work::Cond { branches, .. } => branches.iter().for_each(|b| each(&b.steps, f)),
            _ => {}
        }
    }
}

/// Like [`each`], to change them.
pub(super) fn each_mut(steps: &mut [Step], f: &mut impl FnMut(&mut Step)) {
    for step in steps {
        f(step);
        match &mut step.work {
            Work::While { cond, body, .. } => {
                [cond, body].into_iter().for_each(|b| each_mut(&mut b.steps, f))
            }
            Work::Cond { branches, .. } => branches.iter_mut().for_each(|b| each_mut(&mut b.steps, f)),
            _ => {}
        }
    }
}
