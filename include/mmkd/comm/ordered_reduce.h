#pragma once
#include <cstddef>
#include <span>
#include <string_view>

namespace mmkd {

/// Element types that can be reduced. bf16 and f16 are accumulated in fp32 and rounded once (to nearest even).
enum class ElementType { f32, f64, bf16, f16, i64, i32, u8, boolean };

/// What is made of the elements of all ranks. Integer sums wrap. `average` divides the sum by the number of ranks
/// (integers truncate); booleans have none. A boolean sum or max is "any", a product or min is "all". A NaN among
/// floats makes min and max NaN.
enum class Reduction { sum, average, product, min, max };

std::size_t element_size(ElementType type);
std::string_view to_string(ElementType type);
std::string_view to_string(Reduction reduction);

/// output[i] = ((x_0[i] + x_1[i]) + x_2[i]) + …, always in the order of `inputs`, element by element: the result
/// depends on the values alone, never on where in a buffer they lie. `output` may be one of the inputs, but must not
/// overlap one otherwise. Pointers are aligned to the element size. Throws Error for the average of booleans.
void reduce_in_order(Reduction reduction, ElementType type, std::span<const std::byte* const> inputs, std::byte* output,
                     std::size_t count);

}  // namespace mmkd
