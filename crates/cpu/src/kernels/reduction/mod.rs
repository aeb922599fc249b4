//! Reductions along dimensions.

mod reduce_argmax;
mod reduce_argmin;
mod reduce_l1_norm;
mod reduce_l2_norm;
mod reduce_log_sum;
mod reduce_log_sum_exp;
mod reduce_max;
mod reduce_mean;
mod reduce_min;
mod reduce_prod;
mod reduce_sum;
mod reduce_sum_square;
