//! Functions of two tensors, element by element.

mod add;
mod equal;
mod floor_div;
mod greater;
mod greater_equal;
mod less;
mod less_equal;
mod logical_and;
mod logical_or;
mod logical_xor;
mod maximum;
mod minimum;
mod modulo;
mod mul;
mod not_equal;
mod pow;
mod real_div;
mod sub;
