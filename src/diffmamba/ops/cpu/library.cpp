// What the library says of itself, so that a file that is not ours is found before its operators are called.
#include "vectors.h"

extern "C" int64_t diffmamba_width() { return W; }  // numbers in a vector

extern "C" int64_t diffmamba_openmp() {  // the date of OpenMP's standard, year and month; 0 without: one thread
#ifdef _OPENMP
    return _OPENMP;
#else
    return 0;
#endif
}
