namespace gramian {
namespace GRAMIAN_ISA {
float half(float x) { return x / 2; }
}  // namespace GRAMIAN_ISA
}  // namespace gramian
