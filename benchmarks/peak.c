/* Fused multiply-adds and nothing else, on as many registers as hide their latency: the most that a
 * core can multiply and add.  Compiled for the machine it runs on. */
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float Vec __attribute__((vector_size(BYTES)));
enum { kChains = 12, kLanes = BYTES / sizeof(float) };

/* One variable per chain, and not an array, which GCC would keep in memory. */
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

/* Has the compiler believe that v changes: it must then be computed in each turn, and be a register. */
#if defined(__x86_64__)
#define CHANGE(v) __asm__ volatile("" : "+v"(v))
#elif defined(__aarch64__)
#define CHANGE(v) __asm__ volatile("" : "+w"(v))
#else
#define CHANGE(v)
#endif

/* Flops of one turn of the loop. */
int flops_per_turn(void) { return 2 * kChains * kLanes; }

float run(long turns) {
  const Vec zero = {0};
  const Vec factor = zero + 0.999f, step = zero + 0.001f;
#define BEGIN(c) Vec sum##c = step * (float)c;
#define ADD(c) sum##c = sum##c * factor + step;
#define KEEP(c) CHANGE(sum##c);
#define COLLECT(c) all += sum##c;
  CHAINS(BEGIN)
  for (long i = 0; i < turns; ++i) {
    CHAINS(ADD)
    CHAINS(KEEP)
  }
  Vec all = zero;
  CHAINS(COLLECT)
  return all[0];
}
