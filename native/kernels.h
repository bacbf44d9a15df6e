// THE contract between TypeScript and every backend: one table of kernels.
//
// Letters: B batch, T tokens, d model width, V vocabulary, n prediction heads, H attention heads, G key/value heads,
// D width per attention head, f feed-forward width, R rows (B·T), M×N×K a product. S = stored tokens per row (≥ T + n).
// float = the compute dtype: f32, bf16 (arithmetic and sums in f32), or f64 (generic CPU level only: the oracle).
// Where f32 is said of losses, lse, sums, weights' gradients and the optimizer's state, the oracle has f64.
//
// Every kernel: takes contiguous views, writes only Out and InOut, never allocates (workspace is an argument),
// never synchronises, sums in a fixed order that depends on shapes and the SIMD level, never on rows, threads, chunks.
// Shapes and configuration come by value; what changes from step to step comes from a device buffer, so that a call
// can be recorded and replayed. "accumulate" false stores, true adds to it. Arguments marked ? may be absent.
#pragma once
#include "core/call.h"
#include "core/view.h"

namespace foretoken {

// One kernel: what runs, and how many bytes of workspace it needs for these arguments (nullptr: none).
template <class... Args>
struct Slot {
  void (*run)(const Call&, Args...) = nullptr;
  size_t (*workspace)(const Machine&, Args...) = nullptr;
};

// targets(b,t) = targets[b, t + shift]; ignored when negative or when limit is given and t + shift > limit[b,t].
// limit[b,t] is the last position of the document that position t belongs to.

struct Kernels {
  // ---- element-wise -------------------------------------------------------------------------------------------------
  // y = value. Any dtype.
  Slot<Out /*y*/, double /*value*/> fill;
  // y = x in y's dtype, rounding to nearest even. Equal element counts; any two of f32, bf16, f64; or equal dtypes.
  Slot<In /*x*/, Out /*y*/> cast;
  // y = a + b. y may be a or b. a, b, y: float or f32 each.
  Slot<In /*a*/, In /*b*/, Out /*y*/> add;
  // y = alpha·x. y may be x.
  Slot<In /*x*/, double /*alpha*/, Out /*y*/> scale;
  // y = a·b, b of a's shape or one element. y may be a or b. a, b, y: float or f32 each.
  Slot<In /*a*/, In /*b*/, Out /*y*/> multiply;
  // y += alpha·x. y: f32 or float; x: float or f32. Summing gradients.
  Slot<In /*x*/, double /*alpha*/, InOut /*y*/> accumulate;
  // y[i] = mean + std·normal(Philox(seed, stream, i)) (Salmon et al. 2011, Box–Muller). Same bits on every device.
  Slot<Out /*y*/, double /*mean*/, double /*std*/, int64_t /*seed*/, int64_t /*stream*/> random_normal;
  // y[m] = x[index[m]]. x (R,C), index (M) i32, y (M,C). An index outside [0,R) gives zeros.
  Slot<In /*x*/, In /*index*/, Out /*y*/> gather_rows;

  // ---- products -----------------------------------------------------------------------------------------------------
  // y = x·weightᵀ + bias? + residual?. x (M,K), weight (N,K) row-major or packed, bias (N), residual (M,N), y (M,N).
  // y: float, or f32 when x is bf16. y may be residual. Row m's bits do not depend on M.
  Slot<In /*x*/, In /*weight*/, In /*bias?*/, In /*residual?*/, Out /*y*/> linear;
  // dx (+)= dy·weight. dy (M,N), weight (N,K) row-major, dx (M,K): float, or f32 when dy is bf16.
  Slot<In /*dy*/, In /*weight*/, InOut /*dx*/, bool /*accumulate*/> linear_backward_input;
  // dweight (+)= dyᵀ·x, dbias? (+)= column sums of dy. dy (M,N), x (M,K), dweight (N,K) f32 (f64 with f64), dbias (N).
  Slot<In /*dy*/, In /*x*/, InOut /*dweight*/, InOut /*dbias?*/, bool /*accumulate*/> linear_backward_weight;
  // packed = weight in the order `linear` reads fastest; same values, same results bit for bit.
  Slot<In /*weight*/, Out /*packed*/> pack_weight;

  // ---- norm ---------------------------------------------------------------------------------------------------------
  // y[r] = x[r] / sqrt(mean(x[r]²) + eps) · weight. x, y (R,d), weight (d). (arXiv 1910.07467)
  Slot<In /*x*/, In /*weight*/, Out /*y*/, double /*eps*/> rms_norm;
  // dx (+)= …, dweight (+)= Σ_r dy[r]·x[r]/rms(r). dx: float or f32; dweight (d) f32. Statistics are recomputed.
  Slot<In /*dy*/, In /*x*/, In /*weight*/, InOut /*dx*/, InOut /*dweight*/, double /*eps*/, bool /*accumulate_dx*/,
       bool /*accumulate_dweight*/>
      rms_norm_backward;

  // ---- attention ----------------------------------------------------------------------------------------------------
  // Rotates halves of each D-vector in place by position·theta^(−2i/D); inverse turns back (its own gradient).
  // x (R,H,D); positions (R) i32, or absent: row r has position r mod period. (arXiv 2104.09864, halves as in Llama)
  Slot<InOut /*x*/, In /*positions?*/, int64_t /*period*/, double /*theta*/, bool /*inverse*/> rope;
  // out[b,t,h] = Σ_{first_key[b,t] ≤ s ≤ t} softmax_s(scale·q[b,t,h]·k[b,s,g]) v[b,s,g], g = h·G/H; no T×T array.
  // q, out (B,T,H,D); k, v (B,T,G,D); first_key (B,T) i32, absent: 0; lse (B,H,T) f32 (natural log). (arXiv 2307.08691)
  Slot<In /*q*/, In /*k*/, In /*v*/, In /*first_key?*/, Out /*out*/, Out /*lse*/, double /*scale*/> attention;
  // dq, dk, dv of the above, recomputing probabilities from lse. dq may not alias.
  Slot<In /*q*/, In /*k*/, In /*v*/, In /*first_key?*/, In /*out*/, In /*lse*/, In /*dout*/, Out /*dq*/, Out /*dk*/,
       Out /*dv*/, double /*scale*/>
      attention_backward;
  // key_cache[sequence[r], :, position[r]] = k[r], likewise v. k, v (R,G,D); caches (slots,G,capacity,D); sequence,
  // position (R) i32. Rows whose sequence or position is out of range are skipped.
  Slot<In /*k*/, In /*v*/, In /*sequence*/, In /*position*/, InOut /*key_cache*/, InOut /*value_cache*/> cache_append;
  // A row of qkv (R,(H+2G)·D) holds its queries, keys and values, one head after the other. Queries to q (R,H,D) and
  // keys to key_cache[sequence[r], :, place[r]], both rotated by position[r] as in rope; values to value_cache there.
  // Caches as above; place (R) i32. Rows whose sequence or place is out of range leave only queries.
  Slot<In /*qkv*/, In /*sequence*/, In /*position*/, In /*place*/, Out /*q*/, InOut /*key_cache*/,
       InOut /*value_cache*/, double /*theta*/>
      rope_append;
  // out[r,h] = attention of row r over cache positions first_key[r] ≤ s ≤ position[r] of its sequence, summed in blocks
  // aligned to position 0, so that a row's bits depend on nothing but its own prefix. q, out (R,H,D). Rows whose
  // sequence or position is out of range give zeros. branch (R,A) i32, for rows of a tree: position s of the row's last
  // A lies at place branch[r, s − position[r] + A − 1] of its slot (clamped to [0,capacity)) instead of at place s. The
  // sum is still by position: a row has the same bits wherever its keys lie. (arXiv 2401.10774)
  Slot<In /*q*/, In /*key_cache*/, In /*value_cache*/, In /*sequence*/, In /*position*/, In /*first_key?*/,
       In /*branch?*/, Out /*out*/, double /*scale*/>
      attention_cached;

  // ---- feed-forward -------------------------------------------------------------------------------------------------
  // y = silu(gate)·up. All (R,f). (arXiv 2002.05202)
  Slot<In /*gate*/, In /*up*/, Out /*y*/> swiglu;
  // dgate = dy·up·silu'(gate), dup = dy·silu(gate). dgate and dup may be dy, gate or up.
  Slot<In /*dy*/, In /*gate*/, In /*up*/, Out /*dgate*/, Out /*dup*/> swiglu_backward;

  // ---- embedding ----------------------------------------------------------------------------------------------------
  // y[b,t] = weight[tokens[b,t]]. tokens (B,S) i32 of which the first T columns are read, weight (V,d), y (B,T,d).
  // A token outside [0,V) reads row 0 and sets status[0] = 1 (the guard: nothing is updated from such a step).
  // status (4) i32 = [a token was bad, a step was skipped (see adamw), unused, unused].
  Slot<In /*tokens*/, In /*weight*/, Out /*y*/, InOut /*status?*/> embedding;
  // dweight[v] (+)= Σ over positions in order with token v of dy. dy (B,T,d), dweight (V,d) f32.
  Slot<In /*dy*/, In /*tokens*/, InOut /*dweight*/, bool /*accumulate*/> embedding_backward;

  // ---- recurrent ----------------------------------------------------------------------------------------------------
  // h[b,t] = tanh(a[b,t] + weight·h[b,t−1]). a, h (B,T,d), weight (d,d), h0 (B,d) or absent: zeros. h may be a.
  Slot<In /*a*/, In /*weight*/, In /*h0?*/, Out /*h*/> rnn;
  // Back through time: da, dweight (+)= …. dh, h, da (B,T,d), dweight (d,d) f32. da may be dh.
  Slot<In /*dh*/, In /*h*/, In /*weight*/, In /*h0?*/, Out /*da*/, InOut /*dweight*/, bool /*accumulate*/> rnn_backward;

  // ---- fused linear cross-entropy (never a (T,V) array) -------------------------------------------------------------
  // z = softcap(logit_scale·(hidden·weightᵀ + bias?)), softcap(z) = c·tanh(z/c), none when 0.
  // loss[r] = (1−ε)(lse − z_y) + ε(lse − mean z) + z_loss·lse²; 0 where ignored.
  // hidden (B,T,d) or (R,d), weight (V,d) row-major or packed, bias (V) float or f32, targets (B,S), limit (B,T) i32.
  // loss, lse, entropy (R) f32; argmax (R) i32, the lowest index among equals; rank (R) i32 = number of z_j > z_y
  // (−1 where ignored). (arXiv 2411.09009, 2410.10989)
  Slot<In /*hidden*/, In /*weight*/, In /*bias?*/, In /*targets*/, In /*limit?*/, int64_t /*shift*/,
       double /*label_smoothing*/, double /*z_loss*/, double /*logit_scale*/, double /*softcap*/, Out /*loss*/,
       Out /*lse*/, Out /*argmax?*/, Out /*rank?*/, Out /*entropy?*/>
      linear_cross_entropy;
  // Gradients of Σ_r upstream[r]·loss[r]; upstream f32 (R), or (1) for all rows. Logits are recomputed in blocks.
  // dhidden (R,d): float or f32, optional; dweight (V,d), dbias (V): f32, optional. Across blocks nothing is in bf16.
  Slot<In /*hidden*/, In /*weight*/, In /*bias?*/, In /*targets*/, In /*limit?*/, int64_t /*shift*/,
       double /*label_smoothing*/, double /*z_loss*/, double /*logit_scale*/, double /*softcap*/, In /*lse*/,
       In /*upstream*/, InOut /*dhidden?*/, InOut /*dweight?*/, InOut /*dbias?*/, bool /*accumulate_dhidden*/,
       bool /*accumulate_dweight*/>
      linear_cross_entropy_backward;
  // share[r] = row_weight?[r] where targets (1,R) i32 are ≥ 0, else 0; with mean divided by the sum of all shares (1
  // when that is 0). total[0] = Σ share·loss in row order. loss, row_weight, share (R), total (1): f32.
  Slot<In /*loss*/, In /*targets*/, In /*row_weight?*/, bool /*mean*/, Out /*total*/, Out /*share*/> reduce_loss;
  // Both in one pass, for training: gradients of scale[0]·Σ_r row_weight?[r]·loss[r] (row_weight (R) f32; loss itself
  // is unweighted). scale (1) f32 in a device buffer: λ_head / number of valid targets of the optimizer step. dhidden
  // may be hidden. Six products' worth of arithmetic or eight, whichever is faster for the shape and level.
  Slot<In /*hidden*/, In /*weight*/, In /*bias?*/, In /*targets*/, In /*limit?*/, int64_t /*shift*/,
       double /*label_smoothing*/, double /*z_loss*/, double /*logit_scale*/, double /*softcap*/, In /*scale*/,
       In /*row_weight?*/, Out /*loss*/, Out /*argmax?*/, InOut /*dhidden*/, InOut /*dweight*/, InOut /*dbias?*/,
       bool /*accumulate_dhidden*/, bool /*accumulate_dweight*/>
      linear_cross_entropy_train;
  // The same without fusing, on logits that are stored: what the fused form is measured against. Targets as above.
  // loss[r] = lse(logits[r]) − logits[r,y], 0 where ignored. logits (R,V); loss, lse (R) f32; argmax (R) i32, the
  // lowest index among equals.
  Slot<In /*logits*/, In /*targets*/, In /*limit?*/, int64_t /*shift*/, Out /*loss*/, Out /*lse*/, Out /*argmax?*/>
      cross_entropy;
  // dlogits[r] = upstream[r]·(softmax(logits[r]) − [v = y]), zeros where ignored. upstream (R) f32. logits and dlogits
  // (R,V) share a dtype.
  Slot<In /*logits*/, In /*targets*/, In /*limit?*/, int64_t /*shift*/, In /*lse*/, In /*upstream*/, Out /*dlogits*/>
      cross_entropy_backward;

  // ---- metrics ------------------------------------------------------------------------------------------------------
  // From the n heads' losses and argmaxes (n,R), per head i (0-based, shift i+1): sums (n,8) f32 (+)=
  // [Σ loss, valid targets, correct, both correct, condition met, accepted, acceptance positions, 0].
  // condition met: heads before i right (their targets and i's valid); both correct: and head i right too.
  // accepted at t: argmax_j(t) = argmax_0(t+j) for every j = 1..i; positions with t+i ≥ T or past the document are not
  // counted.
  Slot<In /*loss*/, In /*argmax*/, In /*targets*/, In /*limit?*/, InOut /*sums*/, bool /*accumulate*/>
      multi_token_metrics;

  // ---- optimizer ----------------------------------------------------------------------------------------------------
  // norm[0] = sqrt(Σ grads²), fixed order. norm (1) f32.
  Slot<InList /*grads*/, Out /*norm*/> gradient_norm;
  // AdamW over all tensors (arXiv 1711.05101), PyTorch's formula: g' = g·min(1, clip_norm/(norm+1e-6)) (clip_norm 0:
  // no clipping), m, v, bias corrections at step, p −= lr·decay_i·p, p −= lr·m̂/(√v̂+eps). compute?: bf16 copies,
  // written where given. state (4) f32 = [learning rate, step (1-based), unused, unused]; step is incremented by the
  // caller. Guard: when norm is not finite or status[0] ≠ 0, nothing is written but status[1] = 1. status (4) i32.
  Slot<InOutList /*params*/, InList /*grads*/, InOutList /*m*/, InOutList /*v*/, InOutList /*compute*/,
       Floats /*decay*/, In /*state*/, In /*norm*/, InOut /*status*/, double /*beta1*/, double /*beta2*/,
       double /*eps*/, double /*clip_norm*/>
      adamw;

  // ---- sampling -----------------------------------------------------------------------------------------------------
  // token[r] = argmax_j of logits[r,j]/temperature + Gumbel(Philox(seed, request, position, j)) over the top_k largest
  // and, of those, the smallest set with probability ≥ top_p under the tempered distribution over these top_k;
  // temperature 0: argmax of all logits. The lowest index among equals.
  // logits (R,V) f32; settings (R,3) f32 = temperature, top_k (0: all), top_p; counters (R,4) i32 = low and high half
  // of the seed, request, position. token (R) i32, −1 where a logit is NaN; log_probability (R) f32 under the
  // untempered distribution. Both may be (R,M): the M best in that order, the first being the (R) one: draws without
  // replacement (arXiv 1903.06059). Past the last token that has a probability: −1 and NaN.
  Slot<In /*logits*/, In /*settings*/, In /*counters*/, Out /*token*/, Out /*log_probability*/> sample;

  // ---- drafts (arXiv 1811.03115) ------------------------------------------------------------------------------------
  // A step whose start only the device knows. progress (S,2) i32: per slot the position of its text's last token, and
  // how many tokens of its last draft were kept. rows (R,2) i32 = slot, offset; draws (D,5) i32 = slot, offset, low and
  // high half of the seed, request. columns (4,R) i32 = sequence, position, previous, place: position = offset +
  // progress[slot,0], place = slot·capacity + position, previous = place − 1 or, at position 0, −1. A row has no
  // effect, −1, 0, −1, −1, where its slot or position is out of range or it was read before: offset < −1 −
  // progress[slot,1]. counters (D,4) i32 as `sample` takes them: the position is offset + progress[slot,0].
  Slot<In /*rows*/, In /*draws*/, In /*progress*/, int64_t /*capacity*/, Out /*columns*/, Out /*counters*/> draft_rows;
  // What is kept of the drafts that such a step has read. A row with offset 0 has the last token of its slot's text,
  // the rows right behind it with the slot and offsets 1, 2, … its draft, kept as far as read[r+1] = drawn[r],
  // read[r+2] = drawn[r+1], …. progress[slot] = (position + kept + 1, kept), last[slot] = drawn[r+kept]. No slot has
  // two such rows. step (2) i32 = [t, the most that is kept]: results[t mod T] = read, drawn, the bits of
  // log_probability; then t grows by one. read, drawn (R) i32, log_probability (R) f32, last (S) i32, results (T,3,R)
  // i32.
  Slot<In /*rows*/, In /*read*/, In /*drawn*/, In /*log_probability*/, InOut /*progress*/, InOut /*last*/,
       InOut /*step*/, InOut /*results*/>
      accept_draft;
};

// The one list of slots: X(name, argument names…), in the order of the signature. A trailing '?' marks an optional one.
#define FORETOKEN_KERNELS(X)                                                                                          \
  X(fill, "y", "value")                                                                                               \
  X(cast, "x", "y")                                                                                                   \
  X(add, "a", "b", "y")                                                                                               \
  X(scale, "x", "alpha", "y")                                                                                         \
  X(multiply, "a", "b", "y")                                                                                          \
  X(accumulate, "x", "alpha", "y")                                                                                    \
  X(random_normal, "y", "mean", "std", "seed", "stream")                                                              \
  X(gather_rows, "x", "index", "y")                                                                                   \
  X(linear, "x", "weight", "bias?", "residual?", "y")                                                                 \
  X(linear_backward_input, "dy", "weight", "dx", "accumulate")                                                        \
  X(linear_backward_weight, "dy", "x", "dweight", "dbias?", "accumulate")                                             \
  X(pack_weight, "weight", "packed")                                                                                  \
  X(rms_norm, "x", "weight", "y", "eps")                                                                              \
  X(rms_norm_backward, "dy", "x", "weight", "dx", "dweight", "eps", "accumulateDx", "accumulateDweight")              \
  X(rope, "x", "positions?", "period", "theta", "inverse")                                                            \
  X(attention, "q", "k", "v", "firstKey?", "out", "lse", "scale")                                                     \
  X(attention_backward, "q", "k", "v", "firstKey?", "out", "lse", "dout", "dq", "dk", "dv", "scale")                  \
  X(cache_append, "k", "v", "sequence", "position", "keyCache", "valueCache")                                         \
  X(rope_append, "qkv", "sequence", "position", "place", "q", "keyCache", "valueCache", "theta")                      \
  X(attention_cached, "q", "keyCache", "valueCache", "sequence", "position", "firstKey?", "branch?", "out", "scale")  \
  X(swiglu, "gate", "up", "y")                                                                                        \
  X(swiglu_backward, "dy", "gate", "up", "dgate", "dup")                                                              \
  X(embedding, "tokens", "weight", "y", "status?")                                                                    \
  X(embedding_backward, "dy", "tokens", "dweight", "accumulate")                                                      \
  X(rnn, "a", "weight", "h0?", "h")                                                                                   \
  X(rnn_backward, "dh", "h", "weight", "h0?", "da", "dweight", "accumulate")                                          \
  X(linear_cross_entropy, "hidden", "weight", "bias?", "targets", "limit?", "shift", "labelSmoothing", "zLoss",       \
    "logitScale", "softcap", "loss", "lse", "argmax?", "rank?", "entropy?")                                           \
  X(linear_cross_entropy_backward, "hidden", "weight", "bias?", "targets", "limit?", "shift", "labelSmoothing",       \
    "zLoss", "logitScale", "softcap", "lse", "upstream", "dhidden?", "dweight?", "dbias?", "accumulateDhidden",       \
    "accumulateDweight")                                                                                              \
  X(reduce_loss, "loss", "targets", "rowWeight?", "mean", "total", "share")                                           \
  X(linear_cross_entropy_train, "hidden", "weight", "bias?", "targets", "limit?", "shift", "labelSmoothing", "zLoss", \
    "logitScale", "softcap", "scale", "rowWeight?", "loss", "argmax?", "dhidden", "dweight", "dbias?",                \
    "accumulateDhidden", "accumulateDweight")                                                                         \
  X(cross_entropy, "logits", "targets", "limit?", "shift", "loss", "lse", "argmax?")                                  \
  X(cross_entropy_backward, "logits", "targets", "limit?", "shift", "lse", "upstream", "dlogits")                     \
  X(multi_token_metrics, "loss", "argmax", "targets", "limit?", "sums", "accumulate")                                 \
  X(gradient_norm, "grads", "norm")                                                                                   \
  X(adamw, "params", "grads", "m", "v", "compute", "decay", "state", "norm", "status", "beta1", "beta2", "eps",       \
    "clipNorm")                                                                                                       \
  X(sample, "logits", "settings", "counters", "token", "logProbability")                                              \
  X(draft_rows, "rows", "draws", "progress", "capacity", "columns", "counters")                                       \
  X(accept_draft, "rows", "read", "drawn", "logProbability", "progress", "last", "step", "results")

struct Backend {
  const char* name;        // "cpu"
  const char* level;       // "avx512bf16", "sm_90", …
  const Kernels* kernels;  // for f32 and bf16
  const Kernels* oracle;   // for f64; nullptr where there is none
  // Bytes that this level's `pack_weight` writes for a (N,K) weight of this dtype.
  int64_t (*packed_weight_bytes)(DType dtype, int64_t n, int64_t k);
};

}  // namespace foretoken
