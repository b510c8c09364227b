<?php
// A worker keeps nothing between requests; what is kept is in APCu, memory that all of php-fpm's workers share: they
// are one, and their master's pid is theirs.
apcu_add('token', bin2hex(random_bytes(8)));
header('Content-Type: application/json');
echo json_encode(['token' => apcu_fetch('token'), 'count' => apcu_inc('count'), 'pid' => posix_getppid(),
                  'answer' => array_sum(range(1, 8)) + 6]);
