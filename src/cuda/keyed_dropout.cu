// Keyed dropout: which random bits belong to which element is said in mmkd/nn/dropout.h. Compiled by NVRTC when it is
// first used, and by tests as C++ with a loop for the grid: it uses no header and nothing that only CUDA has but the
// words below.

using Bits16 = unsigned short;
using Bits32 = unsigned int;
using Bits64 = unsigned long long;

// mix64() and extend_key() of mmkd/base/rng.h
__device__ inline Bits64 mix(Bits64 x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}
__device__ inline Bits64 extended(Bits64 key, Bits64 part) { return mix(key + 0x9E3779B97F4A7C15ULL + mix(part)); }

struct Block {
  Bits32 word[4];
};

/// Philox4x32-7 of the counter {counter, 0, 0, 0}.
__device__ inline Block random_block(Bits64 key, Bits32 counter) {
  Block block = {{counter, 0, 0, 0}};
  Bits32 key0 = static_cast<Bits32>(key), key1 = static_cast<Bits32>(key >> 32);
  for (int round = 0; round < 7; ++round) {
    const Bits64 a = 0xD2511F53ULL * block.word[0], b = 0xCD9E8D57ULL * block.word[2];
    block.word[0] = static_cast<Bits32>(b >> 32) ^ block.word[1] ^ key0;
    block.word[1] = static_cast<Bits32>(b);
    block.word[2] = static_cast<Bits32>(a >> 32) ^ block.word[3] ^ key1;
    block.word[3] = static_cast<Bits32>(a);
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return block;
}

// The bits of a bfloat16 stand for it.
__device__ inline float widened(float value) { return value; }
__device__ inline float widened(Bits16 value) { return __uint_as_float(static_cast<Bits32>(value) << 16); }
__device__ inline void narrow(float value, float& out) { out = value; }
/// To nearest even.
__device__ inline void narrow(float value, Bits16& out) {
  const Bits32 bits = __float_as_uint(value);
  const Bits32 rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  out = static_cast<Bits16>(is_nan ? 0x7FC0U : rounded);
}

/// Rows of `width` elements, of which sample s has offsets[s] … offsets[s + 1] - 1, or, without offsets, number s.
struct Samples {
  const long long* keys;  ///< [count]
  const int* offsets;     ///< [count + 1] or null
  long long count, width;
};
/// Samples' keys continue prefix, *step, layer.
struct Rate {
  const long long* step;
  Bits64 prefix, layer;
  Bits32 threshold;  ///< an element is dropped if its 16 bits are below
  float scale;       ///< of the others
};

/// Blocks in y take samples, threads in x take Philox blocks of them, sixteen side by side for 128 elements.
template <class T>
__device__ inline void drop(const T* in, T* out, const Samples& samples, const Rate& rate) {
  const Bits32 lane = threadIdx.x % 16;
  const Bits64 of_all = extended(extended(rate.prefix, static_cast<Bits64>(*rate.step)), rate.layer);
  const long long chunks_at_once = static_cast<long long>(gridDim.x) * (blockDim.x / 16);
  for (long long s = blockIdx.y; s < samples.count; s += gridDim.y) {
    const long long first = (samples.offsets ? samples.offsets[s] : s) * samples.width;
    const long long end = (samples.offsets ? samples.offsets[s + 1] : s + 1) * samples.width;
    const Bits64 key = extended(of_all, static_cast<Bits64>(samples.keys[s]));
    long long chunk = static_cast<long long>(blockIdx.x) * (blockDim.x / 16) + threadIdx.x / 16;
    for (; first + 128 * chunk < end; chunk += chunks_at_once) {
      const Block block = random_block(key, static_cast<Bits32>(16 * chunk) + lane);
      for (int i = 0; i < 8; ++i) {
        const long long at = first + 128 * chunk + 16 * i + lane;
        if (at >= end) break;
        const Bits32 bits = (block.word[i / 2] >> (16 * (i % 2))) & 0xFFFFU;
        narrow(bits >= rate.threshold ? widened(in[at]) * rate.scale : 0.0F, out[at]);
      }
    }
  }
}

extern "C" __global__ void keyed_dropout_float32(const float* in, float* out, Samples samples, Rate rate) {
  drop(in, out, samples, rate);
}
extern "C" __global__ void keyed_dropout_bfloat16(const Bits16* in, Bits16* out, Samples samples, Rate rate) {
  drop(in, out, samples, rate);
}
