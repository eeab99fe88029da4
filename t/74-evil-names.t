# FilesMatch runs what ends in .php, whatever else is in a name or .htaccess.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Httpd;
use PhpFpm;
use Test::More;

plan skip_all => 'no php-fpm here' if !PhpFpm::program();

my $SOURCE = '<?php echo "r", "un";';
my $FILES_MATCH = <<'EOC';
<FilesMatch "\.php$">
  SetHandler @PHP@
</FilesMatch>
EOC
my $ADD_HANDLER = 'AddHandler @PHP@ .php';

# What panels and mod_php's users write into .htaccess files.
my %htaccess = (
    panel => 'AddHandler application/x-httpd-ea-php82 .php .php8 .phtml',
    mod_php => 'AddType application/x-httpd-php .php',
    set => 'SetHandler application/x-httpd-php',
    own => "<FilesMatch \"\\.php\$\">\nSetHandler application/x-lsphp82\n"
        . '</FilesMatch>',
);
my %files = (
    (map { $_ => $SOURCE } qw(a.php A.PHP evil.php.jpg evil.php.xyz evil.jpg
                              .php)),
    map { ("$_/a.php" => $SOURCE, "$_/.htaccess" => $htaccess{$_}) }
        keys %htaccess);

my $php = PhpFpm->start;
# as with security.limit_extensions set to nothing in a pool
my $any = PhpFpm->start(pool => "security.limit_extensions =\n");
my $upper = PhpFpm->start(pool => "security.limit_extensions = .php .PHP\n");

sub server {
    my ($config, $pool) = @_;
    return Httpd->start(vars => { PHP => $pool->handler }, files => \%files,
                        config => $config);
}

# path => what the server makes of it: run, source, or a status.
sub are_so {
    my ($server, $name, %expected) = @_;
    subtest $name => sub {
        for my $path (sort keys %expected) {
            my $answer = Client->get($server->port, "/$path");
            my $is = $answer->status != 200 ? $answer->status
                : $answer->body eq $SOURCE ? 'source' : $answer->body;
            is($is, $expected{$path}, $path);
        }
        $server->ok_healthy;
    };
    return;
}

are_so(server($FILES_MATCH, $_->[1]), "FilesMatch, $_->[0]",
       'a.php' => 'run', 'evil.php.jpg' => 'source',
       'evil.php.xyz' => 'source', 'evil.jpg' => 'source',
       'evil.jpg/x.php' => 404, 'A.PHP' => 'source',
       'panel/a.php' => 'run', 'mod_php/a.php' => 'run', 'set/a.php' => 'run',
       'own/a.php' => 'source')
    for ['PHP-FPM as it comes', $php], ['PHP-FPM that runs any name', $any];

are_so(server($ADD_HANDLER, $any), 'AddHandler',
       'a.php' => 'run', 'A.PHP' => 'run', 'evil.php.jpg' => 'run',
       'evil.php.xyz' => 'run', 'evil.jpg' => 'source',
       'panel/a.php' => 'source', 'mod_php/a.php' => 'run',
       'set/a.php' => 'source', 'own/a.php' => 'source');

are_so(server($ADD_HANDLER, $php), 'AddHandler, and PHP-FPM as it comes',
       'a.php' => 'run', 'evil.php.jpg' => 403, 'evil.php.xyz' => 403);

# PHP-FPM looks at the case, too.
are_so(server($FILES_MATCH =~ s/"/"(?i)/r, $_->[1]), "any case, $_->[0]",
       'a.php' => 'run', 'A.PHP' => $_->[2], 'evil.php.jpg' => 'source')
    for ['PHP-FPM as it comes', $php, 403],
    ['PHP-FPM that is told so', $upper, 'run'];

# What a server may say against the last one.
are_so(server(<<'EOC', $any), 'an If comes after all',
<Directory @DOCROOT@>
  <If "%{REQUEST_FILENAME} =~ /\.php$/">
    SetHandler @PHP@
  </If>
</Directory>
EOC
       'a.php' => 'run', 'evil.php.jpg' => 'source', 'none.php' => 404,
       'evil.jpg/x.php' => 404, 'a.php/x.jpg' => 'run', 'none.php/x' => 404,
       map { ("$_/a.php" => 'run') } keys %htaccess);

$_->stop for $php, $any, $upper;
done_testing;
