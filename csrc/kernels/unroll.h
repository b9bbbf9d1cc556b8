/* unroll.h: statements written out for each row and column of a tile.  Compilers keep an array in registers only where
 * no index is a variable when they first look, so loops over a tile's sums are macros: X(i) for each of n rows, X(i,
 * column) for each column of a row.
 */
#ifndef QLM_UNROLL_H
#define QLM_UNROLL_H

#define QLM_ROWS_4(X) X(0) X(1) X(2) X(3)
#define QLM_ROWS_6(X) QLM_ROWS_4(X) X(4) X(5)
#define QLM_ROWS_12(X) QLM_ROWS_6(X) X(6) X(7) X(8) X(9) X(10) X(11)
#define QLM_COLUMNS_1(X, i) X(i, 0)
#define QLM_COLUMNS_2(X, i) X(i, 0) X(i, 1)
#define QLM_COLUMNS_4(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)
#define QLM_UNROLL_PASTE_(name, count) name##count
#define QLM_UNROLL_PASTE(name, count) QLM_UNROLL_PASTE_(name, count)
#define QLM_EACH_ROW(rows, X) QLM_UNROLL_PASTE(QLM_ROWS_, rows)(X)
#define QLM_EACH_COLUMN(columns, X, i) QLM_UNROLL_PASTE(QLM_COLUMNS_, columns)(X, i)

#endif
