//! `constexpr_sparse_to_dense`

unsupported!(ConstexprSparseToDense, "there is no kernel yet");
